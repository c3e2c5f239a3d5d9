"""The tools for a data directory that no broker uses: ``leveret store``."""
