"""Which sampling grid a batch is trained on: drawn from all grids whose number of tokens lies between two limits."""

import random

from flux_hf.processing.grid_fluxvit import Grid, grid_tokens

SIZES = {"min_size": 12, "max_size": 18, "size_step": 2}
"""Sides in patches where an option is not given: 168 to 252 pixels, step 28, at patch size 14 (arXiv 2503.14237, Table
16)."""

POOL_TOKENS = {"min_pool_tokens": 2048, "max_pool_tokens": 4096}
"""Tokens of a frame each, where an option is not given (ibid.); where a token covers more frames, as many fewer."""


def training_grids(args, patch_shape: tuple[int, int]) -> list[Grid]:
    """The grids that training draws from, for a model whose tokens cover `patch_shape` (frames, pixels).

    Args:
        args: [`ClipTrainingArguments`]; sizes and tokens that are None follow `patch_shape`.

    Raises:
        ValueError: as [`admissible_grids`].
    """
    tubelet_size, patch_size = patch_shape
    given = {name: patches * patch_size for name, patches in SIZES.items()}
    given |= {name: tokens // tubelet_size for name, tokens in POOL_TOKENS.items()}
    given |= {name: getattr(args, name) for name in given if getattr(args, name) is not None}
    return admissible_grids(
        (args.min_frames, args.max_frames, args.frames_step),
        (given["min_size"], given["max_size"], given["size_step"]),
        (given["min_pool_tokens"], given["max_pool_tokens"]),
        patch_size,
        tubelet_size,
    )


def admissible_grids(
    frames: tuple[int, int, int],
    sizes: tuple[int, int, int],
    pool_tokens: tuple[int, int],
    patch_size: int,
    tubelet_size: int = 1,
) -> list[Grid]:
    """All grids of squares whose tokens lie in `pool_tokens`.

    The paper's ranges, frames 4-24 step 2, sizes 168-252 step 28 and 2048-4096 tokens at patch size 14, give 18 grids.

    Args:
        frames: smallest, largest (included) and step; every number must be a multiple of `tubelet_size`.
        sizes: the same in pixels; every size must be a multiple of `patch_size`.
        pool_tokens: fewest and most tokens, both included.
        tubelet_size: frames that a token covers.

    Raises:
        ValueError: a size does not fit the patch or a number of frames the tubelet, a range is empty, or no grid is
            left.
    """
    for name, (low, high, step) in (("frames", frames), ("sizes", sizes)):
        if low < 1 or step < 1 or high < low:
            raise ValueError(f"{name} must be (smallest >= 1, largest >= smallest, step >= 1), got {low, high, step}")
    all_frames, all_sizes = (range(low, high + 1, step) for low, high, step in (frames, sizes))
    if unfit := [count for count in all_frames if count % tubelet_size]:
        raise ValueError(
            f"frames (min_frames, max_frames, frames_step) must be multiples of {tubelet_size}, which a token covers, "
            f"got {unfit}"
        )
    if unfit := [size for size in all_sizes if size % patch_size]:
        raise ValueError(
            f"sizes (min_size, max_size, size_step) must be multiples of the patch size {patch_size}, got {unfit}"
        )
    grids = [
        Grid(count, size)
        for count in all_frames
        for size in all_sizes
        if pool_tokens[0] <= grid_tokens(Grid(count, size), patch_size, tubelet_size) <= pool_tokens[1]
    ]
    if not grids:
        raise ValueError(
            f"no grid of frames {frames} and sizes {sizes} has {pool_tokens[0]} to {pool_tokens[1]} tokens at patch "
            f"size {patch_size}, {tubelet_size} frames a token; widen min_pool_tokens, max_pool_tokens, the frames or "
            "the sizes"
        )
    return grids


def grid_of_step(grids: list[Grid], seed: int, epoch: int, step: int) -> Grid:
    """The grid of one optimiser step: uniform over `grids`, and the same for the same (seed, epoch, step)."""
    return random.Random(f"grid {seed} {epoch} {step}").choice(grids)
