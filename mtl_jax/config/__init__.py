"""Settings of an experiment: what may be set, and how names become code."""
