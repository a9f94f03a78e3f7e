"""Tests of storage/audit."""
