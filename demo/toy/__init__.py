"""The toy world: coloured shapes on four grounds, and the small models that were trained on it."""
