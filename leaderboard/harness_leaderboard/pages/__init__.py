"""The pages of the app, one file each: what is asked of the store, which statistics, which tables."""
