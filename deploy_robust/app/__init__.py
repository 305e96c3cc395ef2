"""The use cases: the only place that joins core, exporters and engines."""
