"""Change a Service that serves: propose with the price, apply in a chosen mode, take back."""
