"""Files and texts that others wrote, read within bounds of size, depth and time."""
