"""Scoring models: text → embeddings → scores."""
