"""Searches for the perturbation that harms a restoration network most: objective, threat, algorithm."""
