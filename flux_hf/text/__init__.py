"""Video and text: pairs of clips and captions, aligning a FluxViT with a text encoder, retrieval."""
