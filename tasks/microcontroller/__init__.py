"""Rhythm networks as C for a microcontroller, and their integer arithmetic in Python."""
