"""The node's kubelet: images, volumes, containers, probes, and what it writes of them."""
