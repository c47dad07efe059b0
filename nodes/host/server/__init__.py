"""The server around a node: what it shows, which files it may read, whom it may ask."""
