"""The command `holter`: a module a group of its words."""
