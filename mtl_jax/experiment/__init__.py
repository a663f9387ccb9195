"""From a config to a run: below `studies`, only this package reads settings."""
