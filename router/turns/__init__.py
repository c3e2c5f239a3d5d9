"""Turns of the event loop: time budget, work continued in later turns, deadlines, offloaded work."""
