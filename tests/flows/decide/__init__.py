"""Tests of evaluations and decisions."""
