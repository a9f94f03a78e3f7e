"""How networks learn: splits, draws, epochs, teachers, simulated records."""
