"""The typed config of a run, and those of its sections that no other folder owns."""
