"""The gradient engine, the step, its parallel forms, and the training loop."""
