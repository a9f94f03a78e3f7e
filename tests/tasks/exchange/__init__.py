"""Tests of formats for outsiders."""
