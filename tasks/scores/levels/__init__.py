"""What an evaluation counts beside beats: whole records, and what was told at every level."""
