"""Suites that ship with the harness; `harness run suite:<folder>/<name>` runs one."""
