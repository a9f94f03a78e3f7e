"""Promotion policies, thresholds of drift, and plans of change control: one TOML each."""
