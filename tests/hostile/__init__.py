"""Inputs of one client that must not harm others: a probe beside each measures how long others wait.

A module for each family of inputs (``publishing``, ``matching``, ``queues``, ``administration``,
``memory``, ``logins``) has its scenarios; ``scenario`` has what they use, ``harness`` runs them against a
broker in a process of its own. The tests play all at a small size. ``python -m tests.hostile`` plays them at
full size.
"""
