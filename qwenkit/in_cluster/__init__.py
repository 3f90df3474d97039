"""``qwenkit upload --in-cluster``: the upload as a Kubernetes Job beside the bucket."""
