"""Searches that need neither torch nor transformers: of a model and a collection that were prepared for it before."""
