"""One file for each runtime behind the engine protocol; found by name through entry points, never imported by name."""
