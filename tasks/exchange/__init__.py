"""Values in the formats of hospitals, auditors and catalogues."""
