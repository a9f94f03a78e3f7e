"""Signatures and time stamps that the public tools of others verify."""
