"""A tiny Qwen2 checkpoint, as a hub would list it. ``tools/train_tiny_model.py`` makes it."""
