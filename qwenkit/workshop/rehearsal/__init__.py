"""A rehearsal: scripted learners go through a workshop before the people come."""
