"""What a namespace allows: its quotas, limits and the level of its pods' security."""
