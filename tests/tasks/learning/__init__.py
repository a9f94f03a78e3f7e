"""Tests of tasks.learning."""
