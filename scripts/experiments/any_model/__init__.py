"""Does Flux training pay in other models than FluxViT? Stock training against it, from random weights."""
