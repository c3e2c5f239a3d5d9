"""Routes and pages of the HTTP server, as plain functions from a request to a response; no sockets, no
Trio.
"""
