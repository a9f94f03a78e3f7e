"""What is told of a data set: its TOML, its labels, its patients."""
