"""The broker's Trio code: sockets, signals and the clock around the synchronous core."""
