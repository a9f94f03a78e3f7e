"""What people read of versions: cards, comparisons, the Pareto front."""
