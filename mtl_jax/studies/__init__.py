"""Many experiments, one comparison: methods, single-task twins, tuning."""
