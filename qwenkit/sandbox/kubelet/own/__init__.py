"""Commands of qwenkit itself that a pod may run."""
