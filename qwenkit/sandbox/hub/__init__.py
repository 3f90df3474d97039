"""The model hub: ModelScope's and Hugging Face's download APIs over a folder."""
