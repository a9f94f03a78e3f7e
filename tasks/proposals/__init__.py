"""What a new data set seems to hold, and the questions that stay open."""
