"""The benchmarks: `make bench` measures, and fills the pages of docs/measurements."""
