"""Grids and batches of training: what is admissible, and what is the same where."""

from collections import Counter

import pytest
from accelerate.data_loader import BatchSamplerShard, skip_first_batches
from torch.utils.data import DataLoader

from flux_hf.training import FluxTrainingArguments
from flux_hf.training.grids import admissible_grids, grid_of_step, training_grids
from flux_hf.training.sampling import GridBatchSampler

PAPER = {"frames": (4, 24, 2), "sizes": (168, 252, 28), "pool_tokens": (2048, 4096), "patch_size": 14}
GRIDS = [(4, 28), (6, 28), (8, 28)]


def test_the_grids_of_the_paper():
    sizes = {8: (224, 252), 10: (224, 252), 12: (196, 224, 252), 14: (196, 224), 16: (168, 196, 224), 18: (168, 196)}
    sizes |= {20: (168, 196), 22: (168,), 24: (168,)}
    assert admissible_grids(**PAPER) == [(frames, size) for frames, row in sizes.items() for size in row]


def test_grids_follow_what_a_token_covers(tmp_path):
    """The same seconds at the same number of patches: with tubelets of two frames half the tokens."""
    args = FluxTrainingArguments(str(tmp_path), use_cpu=True)
    assert training_grids(args, (1, 14)) == admissible_grids(**PAPER)
    grids = training_grids(args, (2, 16))
    assert grids == [(frames, size // 14 * 16) for frames, size in admissible_grids(**PAPER)]
    assert (16, 224) in grids  # the grid of a stock VideoMAE
    args.max_pool_tokens, args.max_size = 1568, 224
    assert max(frames * size**2 // (2 * 16**2) for frames, size in training_grids(args, (2, 16))) == 1568


def test_the_grids_of_the_official_script():
    grids = admissible_grids((6, 24, 2), (112, 336, 28), (2048, 6144), 14)
    assert len(grids) == 41
    assert len(admissible_grids((6, 24, 2), (112, 336, 28), (2048, 8192), 14)) == 51


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sizes": (168, 252, 20)}, "188"),
        ({"pool_tokens": (10, 20)}, "min_pool_tokens"),
        ({"frames": (0, 8, 2)}, "frames"),
        ({"sizes": (252, 168, 28)}, "sizes"),
        ({"frames": (4, 8, 0)}, "frames"),
        ({"frames": (4, 7, 1), "tubelet_size": 2}, r"multiples of 2.*\[5, 7\]"),
    ],
)
def test_ranges_without_a_grid_say_what_is_wrong(change, message):
    with pytest.raises(ValueError, match=message):
        admissible_grids(**PAPER | change)


def test_grids_are_drawn_uniformly():
    grids = admissible_grids(**PAPER)
    counts = Counter(grid_of_step(grids, 1, epoch, step) for epoch in range(6) for step in range(3000))
    assert set(counts) == set(grids)
    # 18000 draws from 18 grids: 1000 each with a standard deviation of 31.
    assert all(abs(count - 1000) < 150 for count in counts.values())


def test_grids_depend_on_seed_epoch_and_step():
    draws = [
        [grid_of_step(admissible_grids(**PAPER), seed, epoch, step) for step in range(50)]
        for seed, epoch in ((0, 0), (0, 1), (1, 0))
    ]
    assert draws[0] != draws[1] != draws[2] != draws[0]


def test_every_video_once_and_one_grid_for_each_step():
    sampler = GridBatchSampler(48, 4, GRIDS, batches_per_step=3)
    batches = list(sampler)
    assert len(batches) == len(sampler) == 12
    assert sorted(request.index for batch in batches for request in batch) == list(range(48))
    for start in range(0, 12, 3):
        assert len({request.grid for batch in batches[start : start + 3] for request in batch}) == 1
    assert len({batch[0].grid for batch in batches}) > 1


def test_epochs_differ_and_come_back():
    sampler = GridBatchSampler(30, 5, GRIDS, seed=3)
    first = list(sampler)
    sampler.set_epoch(1)
    second = list(sampler)
    assert [request.index for batch in first for request in batch] != [r.index for batch in second for r in batch]
    assert {request.epoch for batch in second for request in batch} == {1}
    sampler.set_epoch(0)
    assert list(sampler) == first


def test_an_unfilled_last_step_is_left_out_and_changes_with_the_epoch():
    sampler = GridBatchSampler(23, 4, GRIDS, batches_per_step=2)
    seen = []
    for epoch in range(20):
        sampler.set_epoch(epoch)
        indices = [request.index for batch in sampler for request in batch]
        assert len(indices) == len(set(indices)) == 16
        seen += indices
    assert set(seen) == set(range(23))


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_accelerate_gives_every_process_the_same_grids_and_other_videos(processes):
    ranks = [
        list(BatchSamplerShard(GridBatchSampler(48, 4, GRIDS, batches_per_step=processes), processes, rank))
        for rank in range(processes)
    ]
    assert [len(batches) for batches in ranks] == [12 // processes] * processes
    for of_one_step in zip(*ranks, strict=True):
        assert len({request.grid for batch in of_one_step for request in batch}) == 1
    assert sorted(r.index for batches in ranks for batch in batches for r in batch) == list(range(48))


def test_processes_and_accumulation_do_not_change_what_a_step_sees():
    def steps(batch_size, batches_per_step):
        batches = list(GridBatchSampler(48, batch_size, GRIDS, batches_per_step=batches_per_step))
        return [sum(batches[i : i + batches_per_step], []) for i in range(0, len(batches), batches_per_step)]

    assert steps(8, 1) == steps(4, 2) == steps(2, 4)


def test_skipping_goes_on_where_it_stopped():
    class Echo:
        def __len__(self):
            return 48

        def __getitem__(self, request):
            return request

    loader = DataLoader(Echo(), batch_sampler=GridBatchSampler(48, 4, GRIDS), collate_fn=list)
    assert list(skip_first_batches(loader, 5)) == list(loader)[5:]


def test_too_few_videos():
    with pytest.raises(ValueError, match="per_device_train_batch_size"):
        GridBatchSampler(7, 4, GRIDS, batches_per_step=2)
