"""The typed config of a run, and the sections that belong to no other folder."""
