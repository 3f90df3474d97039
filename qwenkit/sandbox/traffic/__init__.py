"""Requests on their way to pods, and their count."""
