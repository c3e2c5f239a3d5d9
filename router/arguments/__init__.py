"""Arguments of declarations, and what they amount to together with policies."""
