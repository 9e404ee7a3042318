"""Token selections to compare the model's own with (paper, Table 2), as functions for `evaluate`."""

import torch

from flux_hf.modeling.token_selection_fluxvit import select_tokens
from flux_hf.processing.grid_fluxvit import as_grid, grid_tokens

SEED = 0


def patch_changes(model, pixels: torch.Tensor) -> torch.Tensor:
    """L2 distance of every patch embedding to the same position in the previous frame; the first frame copies the
    second. (batch, frames, rows * columns)"""
    embedding = model.fluxvit.embeddings.patch_embedding
    tokens = embedding(embedding.patchify(pixels)).float().flatten(2, 3)
    change = torch.linalg.vector_norm(tokens[:, 1:] - tokens[:, :-1], dim=-1)
    return torch.cat([change[:, :1], change], dim=1)


def random_mask(model, pixels: torch.Tensor, count: int) -> torch.Tensor:
    """`count` random tokens of each clip, the same for every clip of this shape."""
    batch, tokens = _shape(model, pixels)
    chosen = torch.randperm(tokens, generator=torch.Generator().manual_seed(SEED))[:count]
    mask = torch.zeros(tokens, dtype=torch.bool)
    mask[chosen] = True
    return mask.expand(batch, -1).to(pixels.device)


def tube_mask(model, pixels: torch.Tensor, count: int) -> torch.Tensor:
    """The same random places in every frame; what is left over after whole tubes goes to the first frames."""
    batch, tokens = _shape(model, pixels)
    frames = pixels.shape[1]
    places = torch.randperm(tokens // frames, generator=torch.Generator().manual_seed(SEED))
    mask = torch.zeros(frames, tokens // frames, dtype=torch.bool)
    whole, extra = divmod(count, frames)
    mask[:, places[:whole]] = True
    if extra:
        mask[:extra, places[whole]] = True
    return mask.flatten().expand(batch, -1).to(pixels.device)


def dynamic_mask(model, pixels: torch.Tensor, count: int) -> torch.Tensor:
    """The tokens that change most in the whole clip, without groups of frames."""
    changes = patch_changes(model, pixels)
    return select_tokens(changes.flatten(1)[:, None], count)


def with_mask(make_mask):
    """A `forward` for `evaluate` that keeps what `make_mask` (model, pixels, count) chooses."""

    def forward(model, pixels: torch.Tensor, token_budget: int) -> torch.Tensor:
        _, tokens = _shape(model, pixels)
        if token_budget >= tokens:
            return model(pixels, token_budget=token_budget).logits
        return model(pixels, keep_mask=make_mask(model, pixels, token_budget)).logits

    return forward


SELECTIONS = {"random": with_mask(random_mask), "tube": with_mask(tube_mask), "dynamic": with_mask(dynamic_mask)}


def _shape(model, pixels: torch.Tensor) -> tuple[int, int]:
    batch, frames, _, *size = pixels.shape
    return batch, grid_tokens(as_grid((frames, size)), model.config.patch_size)
