"""Batches of stores: the batch plan, weighted stores, the pipeline."""
