"""A model hub that is evil, and what it answers."""
