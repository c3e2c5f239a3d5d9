"""Deduplication of messages by queues, exchanges and streams.

``deduplicator`` is the interface that they use. ``cache`` recognizes messages by the value of a header,
``publishers`` by the numbers of a stream's publishers. ``arguments`` switches the cache on, and ``notes``
persists both.
"""
