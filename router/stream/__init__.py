"""Streams: logs of messages with offsets, from which reading removes nothing."""
