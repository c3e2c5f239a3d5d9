"""Arguments of declarations, and their effective values together with policies."""
