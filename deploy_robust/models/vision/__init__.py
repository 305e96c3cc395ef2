"""Small networks that look at what a derainer gives: the downstream half of a check, trained on embedded scenes."""
