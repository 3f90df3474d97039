"""Points that a real server took, the speeds fitted to them, and the error that these have."""
