"""Workshops: a namespace for each participant, few GPUs for many people, and the instructor's view."""
