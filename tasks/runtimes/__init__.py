"""Networks as files, and what runs them."""
