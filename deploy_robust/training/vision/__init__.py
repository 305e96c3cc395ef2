"""Training of vision networks on labelled scenes."""
