"""Extraction, store, retrieval and forgetting of what users said."""
