"""STOMP 1.0, 1.1 and 1.2, sans-IO: bytes to frames and back, for either side of a connection."""
