"""Doors to the neighbours: one file each, and nothing is imported before it is asked for."""
