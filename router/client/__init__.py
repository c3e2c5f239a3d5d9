"""AMQP 0-9-1 client on Trio for the command line.

Responsible for a connection to any broker and the channels on it. It has only what the commands need, and
does not reconnect by itself.
"""
