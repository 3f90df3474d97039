"""How a parameter's value is read, from which layer it comes, and how a run passes it on."""
