"""The command `holter data`: look at data sets, add one, watch for more."""
