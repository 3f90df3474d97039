"""The objects, their history, and what every write of them fills in."""
