"""The command line: one small file per command, listed from metadata and imported when called."""
