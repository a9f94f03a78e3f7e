"""`python -m flows` is `holter`."""

from flows.cli.app import main

main()
