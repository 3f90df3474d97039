"""qwenkit: Qwen from a model hub to OSS, served by vLLM on Knative, scaled by real load."""

__version__ = "0.1.0"
