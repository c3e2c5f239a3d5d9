"""Queues: what they keep, in which order, for whom and for how long."""
