"""Tests of tasks/networks."""
