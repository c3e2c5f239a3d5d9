"""Metadata on disk: topology, users and policies in SQLite."""
