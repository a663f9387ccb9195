"""From a config to a run: the only floor that reads settings."""
