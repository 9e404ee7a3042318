"""Clips of the nine motions made of photographs, with the damage that cameras and codecs do."""
