"""Extraction, store, retrieval and forgetting of what users said. Empty in this release: nothing is remembered yet."""
