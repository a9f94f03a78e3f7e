"""Which version serves: evaluations, the gate, drift, rebuilds, stages of a release."""
