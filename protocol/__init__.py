"""Wire protocols, sans-IO: bytes in, commands out, and back.

Nothing here knows sockets, Trio or the router; everything can be driven from both ends, so that a test can be
the client.
"""
