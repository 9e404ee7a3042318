"""Several unlabelled data sets as one: mixed by weight, mirrored or not each by itself."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from datasets import (
    ClassLabel,
    Dataset,
    Features,
    IterableDataset,
    Value,
    concatenate_datasets,
    interleave_datasets,
)

from flux_hf.data import load_video_dataset
from flux_hf.data.video_column import VIDEO
from flux_hf.processing.grid_fluxvit import Grid
from flux_hf.training.training_clips import ViewMaker


def load_mixture(
    names: list[str],
    splits: list[str],
    *,
    video_roots: list[str] | None = None,
    streaming: bool = False,
    weights: list[float] | None = None,
    seed: int = 0,
) -> Dataset | IterableDataset:
    """All data sets, one after the other or, streamed, interleaved by weight. Their labels are not read: `label` is the
    number of the data set, and its names are those of the data sets.

    Args:
        names: as `load_video_dataset` takes them.
        splits, video_roots: one for all, or one for each.
        weights: of each data set, streamed ones only; see [`mixed_order`] for others. Default: equal.

    Raises:
        ValueError: a name comes twice, or the lists do not fit.
    """
    if len(set(names)) < len(names):
        raise ValueError(f"a data set comes twice: {', '.join(names)}; use --dataset_weights to see one more often")
    splits = _one_for_each(splits, names, "train_split")
    roots = _one_for_each(video_roots, names, "video_root") if video_roots else [None] * len(names)
    parts = [
        load_video_dataset(name, split, streaming=streaming, video_root=root, labelled=False)
        for name, split, root in zip(names, splits, roots, strict=True)
    ]
    timed = any("start" in part.features for part in parts)
    parts = [_numbered(part, number, names, timed) for number, part in enumerate(parts)]
    if len(parts) == 1:
        return parts[0]
    if not streaming:
        return concatenate_datasets(parts)
    shares = shares_of(weights, [1] * len(parts))
    return interleave_datasets(parts, probabilities=shares, seed=seed, stopping_strategy="all_exhausted")


def shares_of(weights: list[float] | None, sizes: list[int]) -> list[float]:
    """Share of each data set in the clips, by weight or, without weights, by size."""
    weights = sizes if weights is None else weights
    if len(weights) != len(sizes) or min(weights) <= 0:
        raise ValueError(f"--dataset_weights must be {len(sizes)} numbers above 0, one for each dataset, got {weights}")
    return [weight / sum(weights) for weight in weights]


def mixed_order(numbers: Sequence[int], weights: list[float], seed: int) -> Callable[[int], list[int]]:
    """Epoch -> its videos in order: as many as there are, of each data set its share.

    Every data set goes on from epoch to epoch where the last one stopped, through one shuffled pass after the other, so
    that each of its videos comes equally often.

    Args:
        numbers: number of the data set of every video.
        weights: one for each data set.

    Raises:
        ValueError: a weight is so small that its data set has no clip in an epoch.
    """
    numbers = np.asarray(numbers)
    videos = [np.flatnonzero(numbers == number) for number in range(len(weights))]
    shares = shares_of(weights, [len(members) for members in videos])
    limits = np.round(np.cumsum([0.0, *shares]) * len(numbers)).astype(int)
    counts = np.diff(limits)
    if not counts.all():
        raise ValueError(
            f"--dataset_weights {list(weights)} give data set {int(np.argmin(counts)) + 1} none of the {len(numbers)} "
            "clips of an epoch; raise its weight"
        )

    def order(epoch: int) -> list[int]:
        drawn = []
        for number, (members, count) in enumerate(zip(videos, counts, strict=True)):
            first = epoch * count
            passes = range(first // len(members), (first + count - 1) // len(members) + 1)
            shuffled = [np.random.default_rng([seed, number, each]).permutation(members) for each in passes]
            start = first % len(members)
            drawn += np.concatenate(shuffled)[start : start + count].tolist()
        generator = torch.Generator().manual_seed(seed + epoch)
        return [drawn[place] for place in torch.randperm(len(drawn), generator=generator).tolist()]

    return order


class MixtureViews:
    """Views of the clips of several data sets, each with a view maker of its own; see [`ViewMaker`]."""

    def __init__(self, makers: list[ViewMaker]):
        self.makers = makers

    def __call__(self, read, label: int, grid: Grid, key: tuple) -> tuple[list[torch.Tensor], list[int]]:
        return self.makers[label](read, label, grid, key)


def _one_for_each(values: list[str], names: list[str], option: str) -> list[str]:
    if len(values) == 1:
        return values * len(names)
    if len(values) != len(names):
        raise ValueError(f"--{option} must be one, or one for each of the {len(names)} data sets, got {values}")
    return values


def _numbered(dataset, number: int, names: list[str], timed: bool):
    """`video`, `label` (the number of the data set) and, where any data set has times, `start` and `end`."""
    times = ["start", "end"] if timed else []
    features = Features({"video": VIDEO, "label": ClassLabel(names=names)})
    features |= {name: Value("float64") for name in times}
    columns = {"video", *(name for name in times if name in dataset.features)}
    dataset = dataset.remove_columns([name for name in dataset.features if name not in columns])
    if isinstance(dataset, IterableDataset):
        return dataset.map(
            lambda row: {"label": number} | {name: row.get(name) for name in times}, features=Features(features)
        )
    for name in times:
        if name not in dataset.features:
            dataset = dataset.add_column(name, [None] * len(dataset), feature=Value("float64"))
        elif dataset.features[name] != Value("float64"):
            dataset = dataset.cast_column(name, Value("float64"))
    return dataset.add_column("label", [number] * len(dataset), feature=features["label"])
