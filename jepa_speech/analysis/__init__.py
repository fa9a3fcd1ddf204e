"""What a checkpoint's clusters and layers hold, as figures, plots and a report."""
