"""WHEN and HOW OFTEN: the Prefect flows and the `holter` command that starts them."""
