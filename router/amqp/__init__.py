"""AMQP 0-9-1 clients: thin adapters from commands to sessions, one file per class of the protocol."""
