"""Why a Service is not ready: what the cluster says, and the one cause that follows."""
