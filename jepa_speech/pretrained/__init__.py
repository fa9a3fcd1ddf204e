"""A trained encoder ready to use: a run folder, a folder of transformers, a released checkpoint."""
