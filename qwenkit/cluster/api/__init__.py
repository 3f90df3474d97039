"""Connections to an API server: whose they are, what is sent, and what is sent again."""
