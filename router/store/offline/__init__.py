"""The tools for a data directory without a running broker: ``leveret store``."""
