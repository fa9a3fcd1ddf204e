"""What is added to a clean recording: other voices, noise, PASE+'s distortions."""
