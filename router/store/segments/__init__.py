"""Segment files: pages of messages that are not in the journal any more."""
