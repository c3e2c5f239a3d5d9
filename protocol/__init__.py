"""Wire protocols, sans-IO: bytes to commands and commands to bytes.

Modules here import neither Trio nor the router and use no sockets; each protocol can be driven from both
sides, so that a test can be the client.
"""
