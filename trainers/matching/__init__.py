"""Embeddings of another model as what a student learns from, or as the documents that its queries are ranked by."""
