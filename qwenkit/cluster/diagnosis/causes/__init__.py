"""The known causes of a Service that does not become ready, by subject."""
