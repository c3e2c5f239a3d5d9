"""Sessions and connections of clients, independent of the protocol."""
