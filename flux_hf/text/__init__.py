"""Video and text: pairs, aligning, retrieval, zero-shot recognition, and an index to search in."""
