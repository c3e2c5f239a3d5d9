"""The broker: what happens to a message between two sockets.

The import order, bottom to top, is written down and enforced in ``tests/test_imports.py``.
"""
