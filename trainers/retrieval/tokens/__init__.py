"""ColBERT at the size of a collection: stored token embeddings, fewer of them, and a search in two stages."""
