"""Withdrawn consent: whose recordings must not come back, and what was deleted on request."""
