"""The control loops of the sandbox: Kubernetes' and Knative's."""
