"""Notebook panels and charts on top of the library."""
