"""Recordings become beat tables, record by record."""
