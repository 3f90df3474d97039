"""Which fields objects have: OpenAPI, CRDs, and the bodies that clients send."""
