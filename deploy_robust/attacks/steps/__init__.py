"""How a gradient attack gets from one iterate to the next: one small file each."""
