"""The inner loops of signal path and decisions in C, and how they are built and loaded."""
