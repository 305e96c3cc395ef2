"""What a comparison of engines says: the figures behind its page, its JSON and its tables."""
