"""First-party noise, one file per idea."""
