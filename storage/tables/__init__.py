"""Beat tables, their manifests, and other arrays at rest."""
