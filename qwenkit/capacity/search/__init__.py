"""Which scaling settings are best: the recommendation, and autoscalers side by side."""
