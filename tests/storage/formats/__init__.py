"""Tests of storage/formats."""
