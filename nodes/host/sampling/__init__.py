"""The method inside the host's samplers."""
