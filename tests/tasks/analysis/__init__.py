"""Tests of tasks/analysis."""
