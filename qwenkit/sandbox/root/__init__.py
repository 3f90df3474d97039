"""The folder of a sandbox: whose it is, which process holds it, what is removed from it."""
