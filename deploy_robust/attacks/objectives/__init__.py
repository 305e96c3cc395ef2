"""What an attack maximises (D in the paper): one small file each."""
