"""The grid of a token budget: how many frames, at which size.

At a fixed number of kept tokens a larger grid to select from is more accurate than one that is kept whole, up to a
point ("Token Optimization" in the FluxViT paper, arXiv 2503.14237): more frames help up to about 16, and size may
shrink for them. The best grid depends on the data; `grids` is where a search puts its result.
"""

import math

import numpy as np

REFERENCE_PATCH_SIZE = 14
"""Patch size, in pixels, to which the sizes in `DEFAULT_GRIDS` belong."""

DEFAULT_GRIDS = {3072: (16, 224), 2048: (12, 224), 1024: (12, 168), 512: (8, 224)}
"""Token budget -> (frames, size in pixels), for Kinetics-400 at patch size 14.

The best or, within 0.1 points, the cheapest of the best measured cells of the paper (top-1, one clip, one crop):
3072: Table 1, Flux-Multi, 16x224 85.7 (20x224 85.7, 12x224 85.4); 2048: Table 1, Flux-Multi, 12x224 85.2 (20x224 85.3,
8x224 84.4); 1024: Table 11, 12x168 85.3 (12x196 and 16x168 85.3, 4x224 without selection 82.3); 512: Table 12, 8x224
81.3 (12x224 80.7, 4x224 79.5). Table 1 varies frames only, at 224 pixels, on InternVideo2-S.
"""

UNLIMITED_GRID = (8, 224)
"""(frames, size in pixels at patch size 14) without a budget: the input of the official evaluation scripts."""


def choose_grid(token_budget: int | None, patch_size: int = REFERENCE_PATCH_SIZE, grids: dict | None = None):
    """Frames and size for a token budget.

    A budget in the table has its entry. Any other takes the entry of the nearest budget (by ratio; the larger one if
    two are equally near) and scales its frames and its size by the cube root of budget / entry's budget, to the nearest
    even number of frames and the nearest multiple of the patch, and at least two frames and one patch. If rounding left
    fewer tokens than the budget, the size grows by whole patches until there are enough.

    Args:
        token_budget: number of tokens to keep, >= 1; None for `UNLIMITED_GRID`.
        patch_size: side of a patch in pixels. The default table is scaled so that tokens per frame stay the same.
        grids: table to use in place of `DEFAULT_GRIDS`, in pixels at this `patch_size` (see `normalize_grids`).

    Returns:
        (frames, size), size in pixels, a multiple of `patch_size`. Frames x (size / patch_size)^2 is at least the
        budget, unless an entry of `grids` for exactly this budget says otherwise.

    Raises:
        ValueError: the budget or patch size is below 1, or `grids` is malformed.
    """
    _check_count("patch_size", patch_size)
    if grids:
        table = check_patch_multiple(normalize_grids(grids), patch_size)
    else:
        table = {budget: _at_patch_size(grid, patch_size) for budget, grid in DEFAULT_GRIDS.items()}
    if token_budget is None:
        return _at_patch_size(UNLIMITED_GRID, patch_size)
    _check_count("token_budget", token_budget)
    if token_budget in table:
        return table[token_budget]
    nearest = min(table, key=lambda budget: (abs(math.log(token_budget / budget)), -budget))
    frames, size = table[nearest]
    scale = (token_budget / nearest) ** (1 / 3)
    frames = max(2, 2 * round(frames * scale / 2))
    side = max(1, round(size * scale / patch_size))
    while frames * side * side < token_budget:
        side += 1
    return frames, side * patch_size


def fit_grid(
    grid: tuple[int, int], token_budget: int | None, source_frames: int, source_side: int, patch_size: int
) -> tuple[int, int]:
    """The grid, cut down to what a video holds: no frame twice and no picture enlarged only to fill a budget.

    Frames are cut to the frames of the video, the size to the smallest multiple of the patch that is not below its
    shorter side. If only one of the two was cut and the tokens left are fewer than the budget, the other one grows, as
    far as the video goes, until there are enough: the size by whole patches, the frames to an even number. If the video
    does not hold as many tokens as the budget, fewer are left. A grid that fits already comes back as it is.

    Args:
        grid: (frames, size), size in pixels, a multiple of `patch_size`.
        token_budget: number of tokens to keep; None keeps all, then nothing grows.
        source_frames: frames of the video, or of the longest one of a batch.
        source_side: its shorter side in pixels, or the largest one of a batch.
        patch_size: side of a patch in pixels.

    Returns:
        (frames, size), size in pixels, a multiple of `patch_size`.

    Raises:
        ValueError: a number of frames or pixels is below 1.
    """
    for name, value in (("source_frames", source_frames), ("source_side", source_side), ("patch_size", patch_size)):
        _check_count(name, value)
    wanted = token_budget or 1
    patches, most_patches = grid[1] // patch_size, -(-source_side // patch_size)
    frames, side = min(grid[0], source_frames), min(patches, most_patches)
    if frames < grid[0]:
        while frames * side * side < wanted and side < most_patches:
            side += 1
    if side < patches and frames * side * side < wanted:
        frames = max(frames, min(source_frames, 2 * math.ceil(wanted / (2 * side * side))))
    return frames, side * patch_size


def normalize_grids(grids: dict) -> dict[int, tuple[int, int]]:
    """`grids` with integer keys and tuples as values, largest budget first.

    Accepts what JSON makes of such a table: keys as strings of digits, values as lists.

    Raises:
        ValueError: naming the entry, unless each key is a budget >= 1 and each value a pair (frames, size) >= 1.
    """
    table = {}
    for budget, grid in grids.items():
        entry = f"grids entry {budget!r}: {grid!r}"
        if isinstance(budget, str) and budget.isascii() and budget.isdigit():
            budget = int(budget)
        if not _is_count(budget):
            raise ValueError(f"{entry}: the key must be a token budget, an integer >= 1")
        if not isinstance(grid, (tuple, list)) or len(grid) != 2 or not all(map(_is_count, grid)):
            raise ValueError(f"{entry}: the value must be (num_frames, size), two integers >= 1")
        if int(budget) in table:
            raise ValueError(f"{entry}: the budget {budget} is there twice")
        table[int(budget)] = (int(grid[0]), int(grid[1]))
    return dict(sorted(table.items(), reverse=True))


def check_patch_multiple(grids: dict[int, tuple[int, int]], patch_size: int) -> dict[int, tuple[int, int]]:
    """Returns `grids`; raises ValueError naming an entry whose size is not a multiple of `patch_size`."""
    for budget, (frames, size) in grids.items():
        if size % patch_size:
            raise ValueError(
                f"grids entry {budget}: {(frames, size)}: the size must be a multiple of patch_size={patch_size}"
            )
    return grids


def _at_patch_size(grid: tuple[int, int], patch_size: int) -> tuple[int, int]:
    return grid[0], grid[1] // REFERENCE_PATCH_SIZE * patch_size


def _is_count(value) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and value >= 1


def _check_count(name: str, value):
    if not _is_count(value):
        raise ValueError(f"{name} must be an integer >= 1, got {value!r}")
