"""The papers' own numbers, one TOML file per paper; `harness.printed` reads them and documents the schema."""
