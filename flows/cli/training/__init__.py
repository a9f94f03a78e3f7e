"""Commands that train networks and measure them."""
