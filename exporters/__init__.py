"""One file for each way from a trained network to an artefact; found by name through entry points."""
