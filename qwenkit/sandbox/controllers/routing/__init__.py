"""From a Route to the gateway: traffic, rollout, names and Ingress."""
