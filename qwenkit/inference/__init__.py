"""The served model: query it, load it, read its metrics."""
