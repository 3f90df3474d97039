"""A user's question about scaling: the settings simulated, in words and charts."""
