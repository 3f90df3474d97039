"""Where weights go: the bucket, its errors, and uploads of single objects."""
