"""Tests of tasks/exchange."""
