"""The papers' own numbers, one TOML file per paper; `harness.papers.printed` reads them and documents the schema."""
