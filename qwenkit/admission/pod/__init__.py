"""The rules for the pod part of a revision template."""
