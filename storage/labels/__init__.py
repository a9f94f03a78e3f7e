"""What people decided about passages of recordings: a log a data set, and what is made from it."""
