"""Tests of tasks/review."""
