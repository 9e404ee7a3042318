"""Windows of real films of static cameras, in which one thing does one of the nine motions."""
