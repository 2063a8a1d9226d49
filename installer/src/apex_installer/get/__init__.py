"""Bytes from elsewhere: http, the index's documents, the cache."""
