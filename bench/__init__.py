"""The benchmarks: one module a section of docs/benchmarks.md, run by `make bench`."""
