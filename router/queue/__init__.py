"""Queues: message order, limits, consumers, delivery and paging. Streams are in ``stream``."""
