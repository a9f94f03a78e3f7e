"""Withdrawn consent: what was made of a person is found, deleted, made again, and certified."""
