"""The grid chosen for a token budget."""

import json

import numpy as np
import pytest

from flux_hf.processing.grid_fluxvit import (
    DEFAULT_GRIDS,
    Grid,
    as_grid,
    choose_grid,
    fit_grid,
    grid_tokens,
    normalize_grids,
)


@pytest.mark.parametrize("budget, grid", [(3072, (16, 224)), (2048, (12, 224)), (1024, (12, 168)), (512, (8, 224))])
def test_default_table(budget, grid):
    assert choose_grid(budget) == grid
    assert choose_grid(np.int64(budget)) == grid


def test_without_a_budget():
    assert choose_grid(None) == (8, 224)
    assert choose_grid(None, patch_size=16) == (8, 256)


@pytest.mark.parametrize("patch_size", [4, 7, 14, 16, 28])
def test_other_patch_sizes_keep_the_tokens_per_frame(patch_size):
    for budget, (frames, size) in DEFAULT_GRIDS.items():
        assert choose_grid(budget, patch_size) == (frames, size // 14 * patch_size)


@pytest.mark.parametrize("patch_size", [7, 14, 16])
def test_any_budget_fits_its_grid(patch_size):
    for budget in [*range(1, 300), *range(300, 20_000, 97), 10**6]:
        frames, size = choose_grid(budget, patch_size)
        assert frames >= 2 and frames % 2 == 0 and size >= patch_size and size % patch_size == 0
        tokens = frames * (size // patch_size) ** 2
        assert tokens >= budget
        assert tokens <= max(24, 7 * budget)


@pytest.mark.parametrize("tubelet_size", [2, 3])
def test_tubelets_are_to_frames_what_patches_are_to_pixels(tubelet_size):
    for budget in [None, 1, 64, 100, 512, 1024, 3000, 3072, 20_000]:
        frames, size = choose_grid(budget, 16)
        grid = choose_grid(budget, 16, tubelet_size=tubelet_size)
        assert grid == (frames * tubelet_size, size)
        assert grid_tokens(grid, 16, tubelet_size) == grid_tokens(Grid(frames, size), 16)
    table = {512: Grid(4 * tubelet_size, 64)}
    assert choose_grid(512, 16, table, tubelet_size) == table[512]
    assert choose_grid(64, 16, table, tubelet_size) == (2 * tubelet_size, 96)
    with pytest.raises(ValueError, match="tubelet_size must be an integer >= 1 and <= 32, got 0"):
        choose_grid(512, tubelet_size=0)


@pytest.mark.parametrize("budget", [512, 100, None])
def test_frames_that_no_tubelets_fill(budget):
    with pytest.raises(ValueError, match="grids entry 512.*frames must be a multiple of tubelet_size=2, got 9"):
        choose_grid(budget, grids={512: Grid(9, 224)}, tubelet_size=2)


def test_nearest_entry_is_scaled_by_the_cube_root():
    assert choose_grid(4096) == (18, 252)  # from 3072: 16 * 1.1006 = 17.6, 224 * 1.1006 = 246.5
    assert choose_grid(256) == (6, 182)  # from 512: 8 * 0.794 = 6.3, 224 * 0.794 = 177.8
    assert choose_grid(64) == (4, 112)  # half the size, half the frames: an eighth
    assert choose_grid(1, grids={100: (8, 140), 400: (8, 280)}) == (2, 28)
    assert choose_grid(200, grids={100: (4, 140), 400: (16, 280)}) == (12, 224)  # equally near: from the larger, 400


def test_own_table_wins():
    table = {512: (16, 140), 64: (4, 56)}
    assert choose_grid(512, grids=table) == (16, 140)
    assert choose_grid(64, grids=table) == (4, 56)
    assert choose_grid(3072, grids=table) != choose_grid(3072)
    assert choose_grid(1024, grids={}) == choose_grid(1024)
    assert choose_grid(500, 7, {500: (3, 7)}) == (3, 7)  # an entry for exactly this budget is taken as it is


def test_table_survives_json():
    table = {3072: (16, 224), 512: (8, 168)}
    assert normalize_grids(json.loads(json.dumps(table))) == table
    assert list(normalize_grids({"64": [2, 28], 512: (8, 168)})) == [512, 64]


@pytest.mark.parametrize(
    "grids, message",
    [
        ({"many": (8, 224)}, "grids entry 'many'.*token budget"),
        ({0: (8, 224)}, "grids entry 0.*>= 1"),
        ({True: (8, 224)}, "grids entry True"),
        ({512.5: (8, 224)}, "grids entry 512.5"),
        ({512: 8}, "grids entry 512: 8.*num_frames, size"),
        ({512: (8,)}, "grids entry 512"),
        ({512: (8, 224, 224)}, "grids entry 512"),
        ({512: (8, 0)}, "grids entry 512"),
        ({512: (8.0, 224)}, "grids entry 512"),
        ({512: "8x224"}, "grids entry 512"),
        ({512: (8, 224), "512": (4, 224)}, "512 is there twice"),
    ],
)
def test_bad_table(grids, message):
    with pytest.raises(ValueError, match=message):
        normalize_grids(grids)


@pytest.mark.parametrize("budget", [512, 100, None])
def test_sizes_that_no_patches_fill(budget):
    with pytest.raises(ValueError, match="grids entry 512.*multiple of patch_size=14"):
        choose_grid(budget, grids={512: Grid(8, 225)})


@pytest.mark.parametrize(
    "pair, grid, tokens, pixels, text",
    [
        ((8, 224), Grid(8, 224), 2048, (224, 224), "8 x 224 x 224"),
        ([4, [28, 56]], Grid(4, (28, 56)), 32, (28, 56), "4 x 28 x 56"),
        ((4, (56, 56)), Grid(4, 56), 64, (56, 56), "4 x 56 x 56"),
        ((3, [40, 30]), Grid(3, (40, 30)), 12, (40, 30), "3 x 40 x 30"),  # what is left of a patch is no token
    ],
)
def test_a_grid_is_a_pair_that_knows_its_tokens(pair, grid, tokens, pixels, text):
    found = as_grid(json.loads(json.dumps(pair)))
    assert found == grid and hash(found) == hash(grid) and type(found.size) is type(grid.size)
    assert grid_tokens(found, 14) == tokens
    assert found.pixels() == pixels and str(found) == text
    frames, size = found
    assert (frames, size) == tuple(grid)


@pytest.mark.parametrize("value", [0, -1, 1.5, "512", True])
def test_bad_budget_and_patch_size(value):
    with pytest.raises(ValueError, match="token_budget must be an integer >= 1"):
        choose_grid(value)
    with pytest.raises(ValueError, match="patch_size must be an integer >= 1"):
        choose_grid(512, value)


@pytest.mark.parametrize(
    "grid, budget, source_frames, source_side, fitted",
    [
        ((8, 224), 512, 300, 240, (8, 224)),  # long and large enough
        ((8, 224), 512, 8, 224, (8, 224)),
        ((8, 224), 512, 300, 200, (8, 210)),  # the smallest multiple of 14 that holds 200 pixels
        ((16, 224), 512, 5, 1080, (5, 224)),  # five frames are enough for 512 tokens
        ((8, 224), 512, 1, 1080, (1, 322)),  # one frame: 23 x 23 = 529 patches
        ((8, 224), 512, 1, 240, (1, 252)),  # one frame of 240 pixels holds 324 patches, no more
        ((8, 224), 512, 300, 90, (12, 98)),  # 49 patches a frame: 11 frames would do, 12 is even
        ((8, 224), 512, 11, 90, (11, 98)),
        ((8, 224), 512, 6, 90, (6, 98)),  # both are short: 294 tokens
        ((8, 224), None, 3, 90, (3, 98)),  # everything is kept, nothing grows
        ((4, 14), 512, 300, 240, (4, 14)),  # a table's entry below its budget is left alone
    ],
)
def test_a_grid_is_cut_down_to_the_video(grid, budget, source_frames, source_side, fitted):
    assert fit_grid(Grid(*grid), budget, source_frames, source_side, 14) == fitted


def test_a_fitted_grid_never_repeats_or_enlarges():
    draw = np.random.default_rng(0)
    for _ in range(3000):
        budget, frames, side, patch = (int(draw.integers(*r)) for r in ((1, 4000), (1, 60), (1, 500), (7, 17)))
        grid = choose_grid(budget, patch)
        fitted = fit_grid(grid, budget, frames, side, patch)
        assert fitted[0] <= frames and fitted[1] % patch == 0 and fitted[1] < side + patch
        all_tokens = frames * (-(-side // patch)) ** 2
        if min(fitted[0] - grid[0], fitted[1] - grid[1]) < 0 and fitted[0] * (fitted[1] // patch) ** 2 < budget:
            cut_both = fitted[0] < grid[0] and fitted[1] < grid[1]
            assert cut_both or fitted[0] * (fitted[1] // patch) ** 2 == all_tokens


def test_a_fitted_grid_has_whole_tubelets():
    draw = np.random.default_rng(1)
    for _ in range(1000):
        budget, frames, side, tubelet = (int(draw.integers(*r)) for r in ((1, 4000), (1, 60), (1, 500), (2, 5)))
        grid = choose_grid(budget, 16, tubelet_size=tubelet)
        fitted = fit_grid(grid, budget, frames, side, 16, tubelet)
        assert fitted.frames % tubelet == 0 and fitted.frames <= max(frames, tubelet)
        as_slots = fit_grid(choose_grid(budget, 16), budget, max(1, frames // tubelet), side, 16)
        assert fitted == (as_slots.frames * tubelet, as_slots.size)


@pytest.mark.parametrize("name", ["source_frames", "source_side", "patch_size", "tubelet_size"])
def test_a_video_without_frames_or_pixels_fits_nothing(name):
    numbers = {"source_frames": 8, "source_side": 90, "patch_size": 14} | {name: 0}
    with pytest.raises(ValueError, match=f"{name} must be an integer >= 1, got 0"):
        fit_grid(Grid(8, 224), 512, **numbers)
