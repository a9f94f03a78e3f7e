"""One module a section of docs/measurements/benchmarks.md, and the peers that it compares with."""
