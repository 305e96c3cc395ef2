"""Where an attack may move the image: one small file for each region."""
