"""Networks that look at derained images, read through a short description of what they take and give."""
