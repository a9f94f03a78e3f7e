"""Whole paths, faults, laws, and the house itself."""
