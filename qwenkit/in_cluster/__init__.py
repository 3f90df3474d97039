"""The upload as a Kubernetes Job beside the bucket."""
