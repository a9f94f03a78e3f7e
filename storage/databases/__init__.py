"""Databases that the servers keep, read without their servers."""
