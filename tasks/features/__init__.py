"""What networks read of beats and of rhythm."""
