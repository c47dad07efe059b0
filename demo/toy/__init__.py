"""The toy world: coloured shapes on four grounds, small models trained on it, and detectors that read it."""
