"""vLLM's OpenAI surface over the files that a pod has mounted."""
