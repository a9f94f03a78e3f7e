"""Commands that write and read formats of hospitals, auditors and catalogues."""
