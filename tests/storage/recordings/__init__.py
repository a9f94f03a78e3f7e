"""Tests of storage/recordings."""
