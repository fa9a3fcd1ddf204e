"""Trained encoders, loaded from a run folder or from a folder of transformers."""
