"""First-party models, one file per idea."""
