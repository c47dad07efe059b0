"""Where objects stand: layouts, and every source that a layout can be read from."""
