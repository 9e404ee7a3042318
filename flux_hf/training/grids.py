"""Which sampling grid a batch is trained on: drawn from all grids whose number of tokens lies between two limits."""

import random

from flux_hf.processing.grid_fluxvit import Grid, grid_tokens


def admissible_grids(
    frames: tuple[int, int, int], sizes: tuple[int, int, int], pool_tokens: tuple[int, int], patch_size: int
) -> list[Grid]:
    """All grids of squares whose tokens lie in `pool_tokens`.

    The paper's ranges, frames 4-24 step 2, sizes 168-252 step 28 and 2048-4096 tokens at patch size 14, give 18 grids.

    Args:
        frames: smallest, largest (included) and step.
        sizes: the same in pixels; every size must be a multiple of `patch_size`.
        pool_tokens: fewest and most tokens, both included.

    Raises:
        ValueError: a size does not fit the patch, a range is empty, or no grid is left.
    """
    for name, (low, high, step) in (("frames", frames), ("sizes", sizes)):
        if low < 1 or step < 1 or high < low:
            raise ValueError(f"{name} must be (smallest >= 1, largest >= smallest, step >= 1), got {low, high, step}")
    all_sizes = range(sizes[0], sizes[1] + 1, sizes[2])
    if unfit := [size for size in all_sizes if size % patch_size]:
        raise ValueError(f"sizes must be multiples of the patch size {patch_size}, got {unfit}")
    grids = [
        Grid(count, size)
        for count in range(frames[0], frames[1] + 1, frames[2])
        for size in all_sizes
        if pool_tokens[0] <= grid_tokens(Grid(count, size), patch_size) <= pool_tokens[1]
    ]
    if not grids:
        raise ValueError(
            f"no grid of frames {frames} and sizes {sizes} has {pool_tokens[0]} to {pool_tokens[1]} tokens at patch "
            f"size {patch_size}; widen min_pool_tokens, max_pool_tokens, the frames or the sizes"
        )
    return grids


def grid_of_step(grids: list[Grid], seed: int, epoch: int, step: int) -> Grid:
    """The grid of one optimiser step: uniform over `grids`, and the same for the same (seed, epoch, step)."""
    return random.Random(f"grid {seed} {epoch} {step}").choice(grids)
