"""Kubernetes objects of the course: rendered from templates, checked before they are sent."""
