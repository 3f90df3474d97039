"""Where weights come from: ModelScope, Hugging Face or a folder."""
