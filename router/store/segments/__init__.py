"""Segment files: pages of messages that have left the journal."""
