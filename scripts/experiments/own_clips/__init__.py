"""What to expect on a few clips of one's own: the recipe beside simple classifiers."""
