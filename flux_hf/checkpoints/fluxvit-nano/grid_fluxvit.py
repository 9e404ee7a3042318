"""The grid of a token budget: how many frames, at which size.

For a fixed number of kept tokens it is more accurate to select them from a larger grid than to keep a smaller one
whole, up to a point ("Token Optimization" in the FluxViT paper, arXiv 2503.14237): more frames help up to about 16, and
size may shrink for them. The best grid depends on the data; a search puts its result into `grids`.
"""

import math
import reprlib
from typing import NamedTuple

import numpy as np
from transformers.image_utils import SizeDict

from .option_limits_fluxvit import (
    LARGEST_PATCH,
    LARGEST_SIDE,
    LARGEST_TUBELET,
    MOST_FRAMES,
    MOST_TOKENS,
    check_clip_pixels,
)


class Grid(NamedTuple):
    """How a video is sampled.

    Attributes:
        frames: number of frames.
        size: pixels: an int for squares, else (height, width).
    """

    frames: int
    size: int | tuple[int, int]

    def pixels(self) -> tuple[int, int]:
        """(height, width) of a frame."""
        return (self.size, self.size) if isinstance(self.size, int) else self.size

    def patch_grid(self, patch_size: int) -> tuple[int, int]:
        """(rows, columns) of patches in a frame."""
        height, width = self.pixels()
        return height // patch_size, width // patch_size

    def __str__(self) -> str:
        height, width = self.pixels()
        return f"{self.frames} x {height} x {width}"


def as_grid(value) -> Grid:
    """The grid that a pair (frames, size) means, also as JSON gives it back: [8, 224] or [8, [168, 224]]."""
    frames, size = value
    if isinstance(size, (tuple, list)):
        height, width = size
        size = height if height == width else (height, width)
    return Grid(frames, size)


class Framing(NamedTuple):
    """What a video processor makes of a video.

    Attributes:
        frames: number of frames taken.
        resize: to what they are resized: the shorter side, or height and width.
        crop: (height, width) in pixels of what is cut out of them.
    """

    frames: int
    resize: SizeDict
    crop: tuple[int, int]

    @property
    def grid(self) -> Grid:
        return as_grid((self.frames, self.crop))


def grid_tokens(grid: Grid, patch_size: int, tubelet_size: int = 1) -> int:
    """Tokens of a grid: tubelets (of `tubelet_size` frames) * rows * columns of patches. All of them pass the patch
    embedding."""
    rows, columns = grid.patch_grid(patch_size)
    return grid.frames // tubelet_size * rows * columns


AUTO = "auto"
"""The token budget that leaves it to the model how many tokens it keeps of a video: the grid is made for the most."""

REFERENCE_PATCH_SIZE = 14
"""Patch size, in pixels, to which the sizes in `DEFAULT_GRIDS` belong."""

DEFAULT_GRIDS = {3072: Grid(16, 224), 2048: Grid(12, 224), 1024: Grid(12, 168), 512: Grid(8, 224)}
"""Token budget -> grid, for Kinetics-400 at patch size 14.

The best or, within 0.1 points, the cheapest of the best measured cells of the paper (top-1, one clip, one crop):
3072: Table 1, Flux-Multi, 16x224 85.7 (20x224 85.7, 12x224 85.4); 2048: Table 1, Flux-Multi, 12x224 85.2 (20x224 85.3,
8x224 84.4); 1024: Table 11, 12x168 85.3 (12x196 and 16x168 85.3, 4x224 without selection 82.3); 512: Table 12, 8x224
81.3 (12x224 80.7, 4x224 79.5). Table 1 varies frames only, at 224 pixels, on InternVideo2-S.
"""

UNLIMITED_GRID = Grid(8, 224)
"""Grid without a budget, at patch size 14: the input of the official evaluation scripts."""


def choose_grid(
    token_budget: int | str | None,
    patch_size: int = REFERENCE_PATCH_SIZE,
    grids: dict[int | str, Grid] | None = None,
    tubelet_size: int = 1,
) -> Grid:
    """The grid for a token budget.

    A budget in the table has its entry. Any other takes the entry of the nearest budget (by ratio; the larger one if
    two are equally near) and scales its frames and its size by the cube root of budget / entry's budget, to the nearest
    even number of frames and the nearest multiple of the patch, and at least two frames and one patch. If rounding left
    fewer tokens than the budget, the size grows by whole patches until there are enough. Where a token covers several
    frames, tubelets are counted instead of frames.

    Args:
        token_budget: number of tokens to keep, >= 1; None for `UNLIMITED_GRID`; "auto" for the table's entry of that
            name, else that of its largest budget.
        patch_size: side of a patch in pixels. The default table is scaled so that tokens per frame stay the same.
        grids: table to use instead of `DEFAULT_GRIDS`, in frames and pixels at this `patch_size` and `tubelet_size`, as
            `normalize_grids` gives it.
        tubelet_size: frames in a token. The default table is scaled so that tokens per second stay the same.

    Returns:
        A grid of squares whose size is a multiple of `patch_size` and its frames one of `tubelet_size`. It has at least
        as many tokens as the budget, unless an entry of `grids` for exactly this budget says otherwise.

    Raises:
        ValueError: budget, patch or tubelet size is out of bounds, or an entry of `grids` is not a multiple of them.
    """
    _check_count("patch_size", patch_size, LARGEST_PATCH)
    _check_count("tubelet_size", tubelet_size, LARGEST_TUBELET)
    own = check_multiples(grids or {}, patch_size, tubelet_size)
    if token_budget == AUTO:
        token_budget = AUTO if AUTO in own else largest_budget(own)
    if token_budget is None:
        return _for_patches(UNLIMITED_GRID, patch_size, tubelet_size)
    if token_budget == AUTO:
        return Grid(*own[AUTO])
    table = {budget: grid for budget, grid in own.items() if budget != AUTO}
    if not table:
        table = {budget: _for_patches(grid, patch_size, tubelet_size) for budget, grid in DEFAULT_GRIDS.items()}
    _check_count("token_budget", token_budget, MOST_TOKENS)
    if token_budget in table:
        return Grid(*table[token_budget])
    nearest = min(table, key=lambda budget: (abs(math.log(token_budget / budget)), -budget))
    frames, size = table[nearest]
    scale = (token_budget / nearest) ** (1 / 3)
    frames = max(2, 2 * round(frames / tubelet_size * scale / 2)) * tubelet_size
    size = max(1, round(size * scale / patch_size)) * patch_size
    while grid_tokens(Grid(frames, size), patch_size, tubelet_size) < token_budget:
        size += patch_size
    return Grid(frames, size)


def largest_budget(grids: dict[int | str, Grid] | None) -> int:
    """The largest budget of a table of grids, default `DEFAULT_GRIDS`."""
    return max((budget for budget in grids or {} if budget != AUTO), default=max(DEFAULT_GRIDS))


def fit_grid(
    grid: Grid,
    token_budget: int | None,
    source_frames: int,
    source_side: int,
    patch_size: int,
    tubelet_size: int = 1,
) -> Grid:
    """The grid, cut down to what a video holds: no frame twice and no picture enlarged only to fill a budget.

    Frames are cut to the whole tubelets of the video, but to one at least; the size to the smallest multiple of the
    patch that is not below its shorter side. If only one of the two was cut and the tokens left are fewer than the
    budget, the other one grows, as far as the video goes, until there are enough: the size by whole patches, the frames
    to an even number of tubelets. If the video does not hold as many tokens as the budget, fewer are left. A grid that
    fits already comes back as it is.

    Args:
        grid: of squares, their size a multiple of `patch_size`, its frames one of `tubelet_size`.
        token_budget: number of tokens to keep; None keeps all, then nothing grows.
        source_frames: frames of the video, or of the longest one of a batch.
        source_side: its shorter side in pixels, or the largest one of a batch.
        patch_size: side of a patch in pixels.
        tubelet_size: frames in a token.

    Returns:
        A grid of squares, their size a multiple of `patch_size`, its frames one of `tubelet_size`.

    Raises:
        ValueError: a number of frames or pixels is below 1.
    """
    sizes = {"source_frames": source_frames, "source_side": source_side, "patch_size": patch_size}
    for name, value in (sizes | {"tubelet_size": tubelet_size}).items():
        _check_count(name, value)
    wanted = token_budget or 1
    most = -(-source_side // patch_size) * patch_size
    most_frames = max(1, source_frames // tubelet_size) * tubelet_size
    frames, size = min(grid.frames, most_frames), min(grid.size, most)
    if frames < grid.frames:
        while grid_tokens(Grid(frames, size), patch_size, tubelet_size) < wanted and size < most:
            size += patch_size
    if size < grid.size and grid_tokens(Grid(frames, size), patch_size, tubelet_size) < wanted:
        per_tubelet = grid_tokens(Grid(1, size), patch_size)
        frames = max(frames, min(most_frames, 2 * math.ceil(wanted / (2 * per_tubelet)) * tubelet_size))
    return Grid(frames, size)


def with_frames(grid: Grid, frames: int, largest_side: int | None = None, *, patch_size: int) -> Grid:
    """The grid with `frames` frames; where they are fewer than its own, its size grows to the smallest multiple of the
    patch at which it has no fewer tokens than before.

    Args:
        grid: of squares, their size a multiple of `patch_size`.
        largest_side: pixels; beyond it the size does not grow, and fewer tokens are left. Default: no limit.
    """
    rows = patches = grid.size // patch_size
    most = math.inf if largest_side is None else -(-largest_side // patch_size)
    while frames * patches**2 < grid.frames * rows**2 and patches < most:
        patches += 1
    return Grid(frames, patches * patch_size)


def normalize_grids(grids: dict) -> dict[int | str, Grid]:
    """`grids` with integer keys, or "auto", and grids as values, largest budget first, "auto" behind them.

    Accepts what JSON makes of such a table: keys as strings of digits, values as lists.

    Raises:
        ValueError: naming the entry, unless each key is a budget and each value a pair (frames, size), within bounds.
    """
    table = {}
    for budget, grid in grids.items():
        entry = f"grids entry {reprlib.repr(budget)}: {reprlib.repr(grid)}"
        if isinstance(budget, str) and budget.isascii() and budget.isdigit() and len(budget) < 20:
            budget = int(budget)
        if budget != AUTO and not _is_count(budget, MOST_TOKENS):
            raise ValueError(
                f'{entry}: the key must be "{AUTO}" or a token budget, an integer >= 1 and <= {MOST_TOKENS}'
            )
        if not isinstance(grid, (tuple, list)) or len(grid) != 2 or not all(map(_is_count, grid)):
            raise ValueError(f"{entry}: the value must be (num_frames, size), two integers >= 1")
        if grid[0] > MOST_FRAMES or grid[1] > LARGEST_SIDE:
            raise ValueError(f"{entry}: the value may be at most {MOST_FRAMES} frames of {LARGEST_SIDE} pixels")
        check_clip_pixels(grid[0], (grid[1], grid[1]), **{"grids entry": f"{budget}: {list(grid)}"})
        budget = budget if budget == AUTO else int(budget)
        if budget in table:
            raise ValueError(f"{entry}: the budget {budget} is there twice")
        table[budget] = Grid(int(grid[0]), int(grid[1]))
    return dict(sorted(table.items(), key=lambda entry: (entry[0] != AUTO, entry[0]), reverse=True))


def check_multiples(grids: dict[int | str, Grid], patch_size: int, tubelet_size: int = 1) -> dict[int | str, Grid]:
    """Returns `grids`; raises ValueError naming an entry whose size is not a multiple of `patch_size`, or whose frames
    are not one of `tubelet_size`."""
    for budget, (frames, size) in grids.items():
        entry = f"grids entry {budget}: {(frames, size)}"
        if size % patch_size:
            raise ValueError(f"{entry}: the size must be a multiple of patch_size={patch_size}")
        check_tubelets(frames, tubelet_size, f"{entry}: the number of frames")
    return grids


def check_tubelets(frames: int, tubelet_size: int, what: str):
    """Raises ValueError, saying `what` is wrong, for frames that are no multiple of `tubelet_size`."""
    if frames % tubelet_size:
        raise ValueError(f"{what} must be a multiple of tubelet_size={tubelet_size}, got {frames}")


def _for_patches(grid: Grid, patch_size: int, tubelet_size: int) -> Grid:
    return Grid(grid.frames * tubelet_size, grid.size // REFERENCE_PATCH_SIZE * patch_size)


def _is_count(value, most: float = math.inf) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and 1 <= value <= most


def _check_count(name: str, value, most: float = math.inf):
    if not _is_count(value, most):
        up_to = "" if most == math.inf else f" and <= {most}"
        raise ValueError(f"{name} must be an integer >= 1{up_to}, got {value!r}")
