"""Recordings as they lie in folders: their leads, marks, stretches and faults."""
