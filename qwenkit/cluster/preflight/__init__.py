"""Every prerequisite of the course, checked before anything is created."""
