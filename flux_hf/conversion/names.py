"""Translates official tensor names and layouts into ours. FluxViT, InternVideo2, UMT and VideoMAE share most of
them."""

import re

import torch

from flux_hf.modeling.position_embedding_fluxvit import sine_cosine_table

RENAMES = [
    (r"cls_token", r"fluxvit.embeddings.cls_token"),
    (r"gpe_proj\.depthwise_conv\.(weight|bias)", r"fluxvit.embeddings.position_embedding.\1"),
    (r"patch_embed\.proj\.(weight|bias)", r"fluxvit.embeddings.patch_embedding.projection.\1"),
    (r"patch_embed\.norm\.weight", r"fluxvit.embeddings.patch_embedding.norm_after.weight"),
    (r"patch_embed\.norm_before\.weight", r"fluxvit.embeddings.patch_embedding.norm_before.weight"),
    (r"blocks\.(\d+)\.norm1\.weight", r"fluxvit.encoder.layers.\1.attention_norm.weight"),
    (r"blocks\.(\d+)\.norm2\.weight", r"fluxvit.encoder.layers.\1.mlp_norm.weight"),
    (r"blocks\.(\d+)\.ls1\.gamma", r"fluxvit.encoder.layers.\1.attention_scale.weight"),
    (r"blocks\.(\d+)\.ls2\.gamma", r"fluxvit.encoder.layers.\1.mlp_scale.weight"),
    (r"blocks\.(\d+)\.attn\.proj\.(weight|bias)", r"fluxvit.encoder.layers.\1.attention.output.\2"),
    (r"blocks\.(\d+)\.attn\.q_norm\.weight", r"fluxvit.encoder.layers.\1.attention.query_norm.weight"),
    (r"blocks\.(\d+)\.attn\.k_norm\.weight", r"fluxvit.encoder.layers.\1.attention.key_norm.weight"),
    (
        r"blocks\.(\d+)\.attn\.lpe\.depthwise_conv\.(weight|bias)",
        r"fluxvit.encoder.layers.\1.attention.local_position.\2",
    ),
    (r"blocks\.(\d+)\.mlp\.fc1\.(weight|bias)", r"fluxvit.encoder.layers.\1.mlp.up.\2"),
    (r"blocks\.(\d+)\.mlp\.fc2\.(weight|bias)", r"fluxvit.encoder.layers.\1.mlp.down.\2"),
    (r"clip_projector\.(\d+)\.norm1_q\.(weight|bias)", r"fluxvit.poolers.\1.query_norm.\2"),
    (r"clip_projector\.(\d+)\.norm1_k\.(weight|bias)", r"fluxvit.poolers.\1.key_norm.\2"),
    (r"clip_projector\.(\d+)\.norm1_v\.(weight|bias)", r"fluxvit.poolers.\1.value_norm.\2"),
    (r"clip_projector\.(\d+)\.cross_attn\.q(?:\.(weight)|_(bias))", r"fluxvit.poolers.\1.query.\2\3"),
    (r"clip_projector\.(\d+)\.cross_attn\.k(?:\.(weight)|_(bias))", r"fluxvit.poolers.\1.key.\2\3"),
    (r"clip_projector\.(\d+)\.cross_attn\.v(?:\.(weight)|_(bias))", r"fluxvit.poolers.\1.value.\2\3"),
    (r"clip_projector\.(\d+)\.cross_attn\.proj\.(weight|bias)", r"fluxvit.poolers.\1.output.\2"),
    (r"fc_norm\.(weight|bias)", r"classifier_norm.\1"),
    (r"head\.(\d+)\.(weight|bias)", r"classifier.heads.\1.\2"),
    (r"final_clip_decoder_for_projs\.(\d+)\.head\.(weight|bias)", r"alignment_decoders.\1.projection.\2"),
    (r"final_clip_decoder_for_projs\.(\d+)\.norm\.(weight|bias)", r"alignment_decoders.\1.norm.\2"),
]
"""(pattern of an official FluxViT name, our name)"""

FUSED = (r"blocks\.(\d+)\.attn\.qkv\.weight", r"fluxvit.encoder.layers.\1.attention.")
"""Queries, keys and values, one matrix there, three here."""

POSITION_GRIDS = {7776: (24, 18), 12800: (32, 20)}
"""Rows of the released position tables -> (frames, side): FluxViT-S and -B."""


def our_tensors(key: str, tensor: torch.Tensor) -> dict[str, torch.Tensor]:
    """What an official FluxViT tensor is here, by name: empty when it has no place (`pos_embed` has no fixed one)."""
    if match := re.fullmatch(FUSED[0], key):
        names = (match.expand(FUSED[1]) + f"{part}.weight" for part in ("query", "key", "value"))
        return dict(zip(names, tensor.chunk(3), strict=True))
    for pattern, replacement in RENAMES:
        if match := re.fullmatch(pattern, key):
            name = match.expand(replacement)
            return {name: _our_shape(name, tensor)}
    return {}


def _our_shape(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """Convolution weights lose their kernel axes; a patch is (row, column, channel), as the official norm reads it. A
    kernel that spans several frames is summed over them, which gives the same on a still scene."""
    if tensor.ndim == 5 and name.endswith("projection.weight"):
        return tensor.sum(2).permute(0, 2, 3, 1).flatten(1)
    return tensor.flatten() if tensor.ndim == 5 else tensor


def position_grid(table: torch.Tensor, known: dict[int, tuple[int, int]] = POSITION_GRIDS) -> tuple[int, int]:
    """(frames, side) of a position table (frames * side * side, channels): as `known` says for its length, else the
    factors whose sine-cosine initialisation is nearest to it."""
    length = len(table)
    if length in known:
        return known[length]
    sides = (side for side in range(1, int(length**0.5) + 1) if length % side**2 == 0)
    grids = [(length // side**2, side) for side in sides]
    return max(grids, key=lambda grid: (table * sine_cosine_table((*grid, grid[1]), table.shape[1])).sum().item())
