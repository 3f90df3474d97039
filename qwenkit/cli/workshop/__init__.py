"""``qwenkit workshop``: the commands of a workshop, a file for each part of it."""
