"""Tests of withdrawn consent."""
