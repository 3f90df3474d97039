"""Knative's autoscaler as an exact model: numbers in, decisions out, no input or output."""
