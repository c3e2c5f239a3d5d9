"""The broker's Trio code: it alone waits, on sockets, on the clock and on signals, and drives the core that does not."""
