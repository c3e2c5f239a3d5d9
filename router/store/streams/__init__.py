"""Files of streams."""
