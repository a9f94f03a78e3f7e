"""What runs on the device: pull a request, check it, run it, report it."""
