"""Networks are trained, taught, registered, and evaluated on devices."""
