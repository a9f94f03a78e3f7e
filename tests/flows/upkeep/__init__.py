"""Tests of upkeep: backup, clean-up, removal, and a state folder of an earlier commit."""
