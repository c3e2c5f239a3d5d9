"""Streams: logs of messages with offsets, which consumers read without emptying them."""
