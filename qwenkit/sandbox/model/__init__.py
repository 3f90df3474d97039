"""The small model's files that are text. ``tiny_model.write`` copies them and adds the rest."""
