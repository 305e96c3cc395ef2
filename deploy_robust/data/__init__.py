"""Pair sources: folders, the scene generator, the embedded photographs; rain; limits and crops."""
