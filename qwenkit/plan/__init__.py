"""A user's question about scaling, answered by simulation in text and charts."""
