"""Values that all layers share: field values, name patterns, size bounds, limits, counters, error texts."""
