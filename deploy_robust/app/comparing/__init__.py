"""The parts of the use case `compare`."""
