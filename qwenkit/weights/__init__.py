"""Model weights: from a hub or a folder to an OSS bucket, verified."""
