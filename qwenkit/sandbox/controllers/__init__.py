"""The control loops of the sandbox's cluster; ``manager.Controllers`` runs them all."""
