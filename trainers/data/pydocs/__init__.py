"""The embedded collection, made of the docstrings of installed packages."""
