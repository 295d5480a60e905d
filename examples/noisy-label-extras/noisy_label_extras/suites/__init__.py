"""Suites that come with the plugin: `harness run suite:extras`."""
