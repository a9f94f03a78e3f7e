"""Tests of tasks/scores."""
