"""Which server for which model on which GPU: images, architectures, flags and contradictions."""
