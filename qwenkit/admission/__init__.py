"""What Knative's webhooks and the API server would answer: pure, used by lint and sandbox."""
