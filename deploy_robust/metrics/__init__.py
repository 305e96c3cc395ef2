"""Pure functions of two image batches that give one number for each image."""
