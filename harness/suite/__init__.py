"""From a TOML file to a plan: suite, grid, trials, status."""
