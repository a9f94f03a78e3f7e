"""The signal path's inner loops in C, and how they are built and loaded."""
