"""From a phrase to token positions in a prompt, and what of a layout travels inside a
conditioning.
"""
