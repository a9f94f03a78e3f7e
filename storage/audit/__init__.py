"""Where a version came from: ledger, chain, lineage, and their checks."""
