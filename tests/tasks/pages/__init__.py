"""Tests of tasks/pages."""
