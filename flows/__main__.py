"""`python -m flows` is `holter`."""

from flows.cli import main

main()
