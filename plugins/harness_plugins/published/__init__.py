"""The papers' own numbers, one TOML file per paper; `harness.results.published` reads them and documents the schema."""
