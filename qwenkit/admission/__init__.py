"""What the API server and Knative's webhooks answer to an object; used by lint and sandbox."""
