"""First-party datasets, one file per idea."""
