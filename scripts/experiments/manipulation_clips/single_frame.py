"""What a single frame tells: can a pair of opposite tasks be told apart without seeing what moves where?

Classifiers are trained on one frame of every clip, the first, the middle, the last or any, and for contrast on three
frames in their order: logistic regression on colour thumbnails, and a small 2D CNN. Both are tested on both other
splits. The first and the last frame are those of the 16 that video models get.

python scripts/experiments/manipulation_clips/single_frame.py --data DIR --device cuda
"""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch

from flux_hf.cli import run_command
from flux_hf.data import load_video_dataset
from flux_hf.files import write_json
from flux_hf.options import parse_options
from flux_hf.provenance import file_list_hash, provenance
from flux_hf.scripts.experiments.manipulation_clips.features import pair_logits, task_logits, thumbnails
from flux_hf.scripts.experiments.manipulation_clips.fitting import Schedule, accuracies, fit, scores
from flux_hf.scripts.experiments.manipulation_clips.pixels import FRAMES, SIZE, Clips, read_clips
from flux_hf.scripts.experiments.own_clips.baselines import frame_cnn

COMMAND = "scripts/experiments/manipulation_clips/single_frame.py"
RESULTS = Path(__file__).parent / "single_frame.json"
VIEWS = {
    "first": [0],
    "middle": [FRAMES // 2],
    "last": [FRAMES - 1],
    "any": None,
    "three": [0, FRAMES // 2, FRAMES - 1],
}
TESTED = ("validation", "test")


@dataclass
class SingleFrameOptions:
    data: str = field(metadata={"help": "Folder that make.py wrote."})
    cache_dir: str = field(default="runs/manipulation/cache", metadata={"help": "Where decoded clips are kept."})
    output: str = field(default=str(RESULTS), metadata={"help": "JSON file to write."})
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2], metadata={"help": "Of the CNN's weights and batches."})
    steps: int = field(default=1500, metadata={"help": "Steps of a CNN."})
    batch: int = field(default=64, metadata={"help": "Clips a step."})
    device: str = field(default="cpu", metadata={"help": "Where the CNN is trained: cpu or cuda."})


def main(argv: list[str] | None = None) -> None:
    (options,) = parse_options(SingleFrameOptions, argv, __doc__)
    splits = {name: read_clips(options.data, name, options.cache_dir, options.device) for name in ("train", *TESTED)}
    rows = []
    for view, frames in VIEWS.items():
        choose = partial(chosen, frames=frames)
        torch.manual_seed(0)
        rows += [{"classifier": "thumbnails", "view": view, "seed": 0, **row} for row in by_thumbnails(splits, choose)]
        for seed in options.seeds:
            found = by_cnn(splits, choose, options, len(frames or [0]), seed)
            rows += [{"classifier": "cnn", "view": view, "seed": seed, **row} for row in found]
            print(*(f"{row['view']} {row['split']}: pair {row['pair']:.3f}" for row in rows[-2:]), sep=", ", flush=True)
    files = {name: file_list_hash(load_video_dataset(options.data, name)) for name in splits}
    result = {"files": files, "clips": {name: len(clips.labels) for name, clips in splits.items()}, "rows": rows}
    write_json(options.output, provenance(f"python {COMMAND}", argv, "scikit-learn") | result)


def chosen(video: torch.Tensor, frames: list[int] | None) -> torch.Tensor:
    """Some frames of (clips, frames, ...); None: one of every clip, drawn."""
    if frames is not None:
        return video[:, frames]
    drawn = torch.randint(video.shape[1], (len(video),), device=video.device)
    return video[torch.arange(len(video), device=video.device), drawn][:, None]


def by_cnn(splits: dict[str, Clips], choose, options: SingleFrameOptions, frames: int, seed: int) -> list[dict]:
    """One network learns all tasks; a pair is told apart by the two scores of its tasks."""
    torch.manual_seed(seed)
    train = splits["train"]
    schedule = Schedule(learning_rate=2e-3, batch=options.batch, size=SIZE, steps=options.steps)
    network = frame_cnn(frames, len(train.label_names)).to(options.device)
    fit(network, train, schedule, choose)
    return [
        {
            "split": name,
            **accuracies(scores(network, splits[name], schedule, choose), splits[name].labels, train.label_names),
        }
        for name in TESTED
    ]


def by_thumbnails(splits: dict[str, Clips], choose) -> list[dict]:
    """A classifier for all tasks and one for every pair alone."""
    train = splits["train"]
    splits = splits | {"backwards": train.backwards()}
    features = {name: thumbnails(clips, choose) for name, clips in splits.items()}
    labels = {name: clips.labels.cpu() for name, clips in splits.items()}
    for values in (features, labels):
        values["train"] = torch.cat([values["train"], values.pop("backwards")])
    rows = []
    for name in TESTED:
        tasks = task_logits(features["train"], labels["train"], features[name])
        pairs = pair_logits(features["train"], labels["train"], features[name], train.label_names)
        top1 = accuracies(tasks, labels[name], train.label_names)["top1"]
        rows.append({"split": name, **accuracies(pairs, labels[name], train.label_names), "top1": top1})
    return rows


if __name__ == "__main__":
    run_command(COMMAND, main)
