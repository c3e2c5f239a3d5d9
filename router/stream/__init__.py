"""Streams: logs of messages with offsets, which reading does not empty."""
