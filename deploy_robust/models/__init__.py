"""The zoo: one file per network, their registry, and their weights files."""
