"""Why a Service is not ready: what the cluster reports, and the one cause that follows."""
