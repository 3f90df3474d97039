"""Knative Serving's own loops: Service, Configuration, Revision and its autoscaling."""
