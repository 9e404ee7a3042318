"""Does pre-training help? The same model from scratch and from distilled students."""
