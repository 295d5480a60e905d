"""First-party algorithms, one file per idea."""
