"""Tests of tasks/microcontroller."""
