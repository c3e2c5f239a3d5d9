"""Persistence as the core sees it: the interface, and the rows of persisted metadata."""
