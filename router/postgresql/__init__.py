"""The store in a PostgreSQL: the same journal, pages and rows as in a data directory, as insert-only rows.

Responsible for connections, tables, and the fence that keeps a second broker from writing. Its modules import
psycopg, an optional dependency, so a broker with a data directory does not load them.
"""
