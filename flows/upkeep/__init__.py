"""Upkeep: backup, restore, clean-up and removal of what lies in the state folder."""
