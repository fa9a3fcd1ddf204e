"""What toolkits call a corpus: one file per kind, each of which yields an Entry per recording."""
