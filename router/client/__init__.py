"""A small AMQP 0-9-1 client on Trio, for the command line.

Owns a connection to any broker and the channels on it. It keeps to what the commands need, and does not
connect again by itself.
"""
