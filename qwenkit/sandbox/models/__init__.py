"""A tiny Qwen2 and a tiny Qwen3, as a hub would list them; ``tools/train_tiny_model.py``."""
