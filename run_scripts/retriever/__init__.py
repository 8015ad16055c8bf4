"""The stages of make_retriever.py that no other command has."""
