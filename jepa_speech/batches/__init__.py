"""From stores to batches: the batch plan, weighted stores, the pipeline."""
