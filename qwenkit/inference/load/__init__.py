"""Load on the served model: a traffic is sent, and every request is measured."""
