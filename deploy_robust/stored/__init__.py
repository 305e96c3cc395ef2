"""Adversarial images that were crafted once and are kept as files, and outputs that were recorded elsewhere."""
