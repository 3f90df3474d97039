"""Reads: lists, watches, selectors, tables and logs."""
