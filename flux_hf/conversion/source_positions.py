"""The positions of InternVideo2, UMT and VideoMAE, read from their tensors or computed as their code does."""

from dataclasses import dataclass

import torch

from flux_hf.conversion.names import position_grid

_IMAGES = (224, 384, 336)
"""Sides of images in pixels that learned tables of UMT and VideoMAE are for."""
_FRAMES = 8
"""Of the table of sines and cosines that UMT and VideoMAE do not store (tubes of 2 frames count once)."""
_INTERNVIDEO2 = {frames * 256: (frames, 16) for frames in (4, 8, 16)}


@dataclass
class SourcePositions:
    """
    Attributes:
        table: (frames * side * side, width).
        grid: (frames, side), in patches.
        cls: position of the cls token (1, 1, width), None where the source has no such token.
        keys: the tensors that hold them, none for a table that was computed.
    """

    table: torch.Tensor
    grid: tuple[int, int]
    cls: torch.Tensor | None
    keys: tuple[str, ...]


def source_positions(tensors: dict[str, torch.Tensor]) -> SourcePositions | None:
    """The positions of a ViT, None where nothing is known of them.

    The first row of a learned table `pos_embed` is that of cls, if the file has a `cls_token`. Learned tables of places
    and of times (`pos_embed_spatial`, `pos_embed_temporal`) are summed. Without cls token and table it is UMT or
    VideoMAE with fixed sines and cosines over 8 frames of 224 pixels, which are computed.

    Args:
        tensors: under official names.

    Raises:
        ValueError: a table fits no grid of frames, or only with a cls row where there is no cls token, or the reverse.
    """
    patch = tensors["patch_embed.proj.weight"].shape[-1]
    if "pos_embed" in tensors:
        return _joint(tensors, patch)
    if {"pos_embed_spatial", "pos_embed_temporal"} <= tensors.keys():
        return _summed(tensors)
    if "cls_token" in tensors or 224 % patch:
        return None
    side = 224 // patch
    width = len(tensors["patch_embed.proj.weight"])
    return SourcePositions(_sines_and_cosines(_FRAMES * side**2, width), (_FRAMES, side), None, ())


def _joint(tensors: dict[str, torch.Tensor], patch: int) -> SourcePositions:
    stored, has_cls = tensors["pos_embed"], "cls_token" in tensors
    if stored.ndim != 3 or len(stored) != 1:
        raise ValueError(f"pos_embed has the shape {tuple(stored.shape)}, expected (1, rows, width)")
    cls, table = (stored[:, :1], stored[0, 1:]) if has_cls else (None, stored[0])
    if "blocks.0.attn.q_norm.weight" in tensors:
        grid = _nearest_grid(table, has_cls)
    else:
        grid = _usual_grid(len(table), patch, has_cls)
    return SourcePositions(table, grid, cls, ("pos_embed",))


def _nearest_grid(table: torch.Tensor, has_cls: bool) -> tuple[int, int]:
    """Of InternVideo2, whose tables start as ours do."""
    rows = len(table)
    other = rows + 1 if has_cls else rows - 1
    if rows not in _INTERNVIDEO2 and _largest_side(other) > _largest_side(rows):
        raise ValueError(
            f"pos_embed has {rows + has_cls} rows, and the file has {'a' if has_cls else 'no'} cls_token: expected are "
            f"frames x side x side rows{' and one for cls' * has_cls}"
        )
    return position_grid(table, _INTERNVIDEO2)


def _usual_grid(rows: int, patch: int, has_cls: bool) -> tuple[int, int]:
    """Of UMT and VideoMAE, whose tables do not tell: images of 224 pixels, or else 384 or 336."""
    sides = [image // patch for image in _IMAGES if image % patch == 0]
    for side in sides:
        if rows and rows % side**2 == 0:
            return rows // side**2, side
    expected = " or ".join(f"frames x {side} x {side}" for side in sides)
    raise ValueError(
        f"pos_embed has {rows + has_cls} rows, and the file has {'a' if has_cls else 'no'} cls_token: expected are "
        f"{expected} rows{' and one for cls' * has_cls} (images of 224, 384 or 336 pixels, patches of {patch})"
    )


def _summed(tensors: dict[str, torch.Tensor]) -> SourcePositions:
    space, time = tensors["pos_embed_spatial"][0], tensors["pos_embed_temporal"][0]
    side = round(len(space) ** 0.5)
    if side**2 != len(space):
        raise ValueError(f"pos_embed_spatial has {len(space)} rows, expected side x side")
    table = (time[:, None] + space[None]).flatten(0, 1)
    keys = ("pos_embed_spatial", "pos_embed_temporal", "pos_embed_cls")
    cls = tensors.get("pos_embed_cls")
    return SourcePositions(table, (len(time), side), cls, tuple(key for key in keys if key in tensors))


def _largest_side(rows: int) -> int:
    return max((side for side in range(1, int(rows**0.5) + 1) if rows % side**2 == 0), default=0)


def _sines_and_cosines(rows: int, width: int) -> torch.Tensor:
    """One number for every position, sines in even and cosines in odd channels: `get_sinusoid_encoding_table`."""
    channels = torch.arange(width, dtype=torch.float64)
    angles = torch.arange(rows)[:, None] / 10000.0 ** (2 * (channels // 2) / width)
    return torch.where(channels % 2 == 0, angles.sin(), angles.cos()).float()
