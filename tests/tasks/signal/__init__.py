"""Tests of tasks/signal."""
