"""The served model: ask it, load it, read its metrics."""
