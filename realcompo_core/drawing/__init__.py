"""Layouts, balance maps and curves as pictures."""
