"""Analysis of a checkpoint's clusters and layers: figures, plots and a report."""
