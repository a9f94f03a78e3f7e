"""Tests of flows/services."""
