"""WHERE: every type that rests on disk or in a server, with its read and write."""
