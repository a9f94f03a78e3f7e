"""What runs beside flows: servers, workers, notices, events, progress."""
