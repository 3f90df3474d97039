"""A revision under traffic in virtual time: requests, pods, autoscaler, result."""
