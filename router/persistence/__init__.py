"""Persistence as an interface of the core, and the rows of persisted metadata."""
