"""Fields, names and quantities: what an object may hold, and how it is read."""
