"""MLflow: runs, models, requests of devices, and what is signed."""
