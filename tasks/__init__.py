"""WHAT: plain functions, arrays in, values out. No Prefect, MLflow, files, clock or network."""
