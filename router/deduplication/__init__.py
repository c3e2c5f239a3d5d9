"""Deduplication: recently seen message ids, and the sequence numbers of stream publishers."""
