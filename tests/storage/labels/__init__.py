"""Tests of storage/labels."""
