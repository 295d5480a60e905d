"""First-party transforms, one file per idea."""
