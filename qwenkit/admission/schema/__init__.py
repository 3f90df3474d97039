"""The fields of Knative's objects, how they are decoded, names and quantities."""
