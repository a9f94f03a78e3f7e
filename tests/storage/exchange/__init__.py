"""Tests of signatures and time stamps for outsiders."""
