"""First-party losses, one file per idea."""
