"""Writes: patches, server-side apply, defaults and what the API server refuses."""
