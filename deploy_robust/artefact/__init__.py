"""Files that exporters write: their manifests, their I/O descriptions, and what is read from the files themselves."""
