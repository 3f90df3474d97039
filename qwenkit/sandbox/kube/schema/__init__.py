"""Which fields objects have: decoding, pruning, OpenAPI and CRDs."""
