"""What the token selector makes of every augmentation."""
