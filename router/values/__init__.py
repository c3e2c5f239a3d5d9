"""Values that all layers share: field values, names' patterns, size bounds, limits, counters, error texts."""
