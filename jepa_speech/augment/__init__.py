"""Augmentation of clean recordings: mixing with other recordings, and PASE+'s distortions."""
