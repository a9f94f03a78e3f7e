"""`python -m edge_agent` is `holter-edge`."""

from edge_agent.cli import main

main()
