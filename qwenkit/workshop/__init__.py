"""Workshops: a namespace for each participant, few GPUs for many, the instructor's view."""
