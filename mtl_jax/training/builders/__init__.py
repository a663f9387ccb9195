"""Step builders: methods that are a training step, not a combinator."""
