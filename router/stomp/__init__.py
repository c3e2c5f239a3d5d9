"""STOMP clients: thin adapters from frames to sessions."""
