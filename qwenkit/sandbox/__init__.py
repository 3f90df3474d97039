"""The embedded sandbox: OSS, a model hub and a Knative cluster behind their real protocols."""
