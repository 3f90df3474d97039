"""A load test: a load and what the cluster does meanwhile, on one time axis."""
