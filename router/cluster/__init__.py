"""Brokers that share one store: the handshake between them, and the choice of the active broker.

Responsible for the decisions, without I/O. Not for sockets (see ``router/server``) nor for the store's own
protection against two writers (see ``router/postgresql``).
"""
