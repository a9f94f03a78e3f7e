"""Tests of storage/databases."""
