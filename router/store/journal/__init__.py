"""The journal: records, batches, checkpoints, truncation, recovery."""
