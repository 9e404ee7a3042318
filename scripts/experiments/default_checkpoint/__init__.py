"""What was measured on the checkpoint that ships with the package."""
