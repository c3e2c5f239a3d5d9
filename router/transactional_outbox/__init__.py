"""Transactional outboxes: tables of PostgreSQL whose rows the broker publishes, each once.

``schema`` has the tables, ``database`` reads and removes their rows, ``rows`` converts a row to a message,
``publisher`` publishes rows in the core, and ``published_rows`` remembers them. The task that connects them
is in ``server/outbox_poller.py``. ``connection``, ``database`` and ``maintenance`` import psycopg; the
broker does not load them without an outbox.
"""
