"""What the TensorRT engine and the TensorRT exporter share: loading, checked calls, types, records, GPU streams."""
