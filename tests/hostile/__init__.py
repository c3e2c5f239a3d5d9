"""Inputs that take a broker long: whatever one client sends, others must be served meanwhile.

``scenarios`` has the inputs, ``harness`` a broker in a process of its own with a probe beside it. A short
form of each runs with the tests. ``python -m tests.hostile`` runs all at full size and prints a table.
"""
