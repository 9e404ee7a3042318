"""Captions of clips that this project did not render: a robot opens and closes a door, a drawer, a window, a faucet.

Object and action come from the names of the eight tasks of shared Meta-World clips. Two tasks are in no training clip:
every object and both actions are seen, those two combinations are not. The recipe is that of compare.py.

python scripts/experiments/captions/manipulation.py --data DIR --work_dir runs/captions
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset, concatenate_datasets
from transformers import set_seed

from flux_hf.cli import run_command
from flux_hf.data import load_video_dataset
from flux_hf.options import parse_options
from flux_hf.provenance import file_list_hash, provenance
from flux_hf.scripts.experiments.captions.baselines import thumbnails
from flux_hf.scripts.experiments.captions.clips import FRAMES
from flux_hf.scripts.experiments.captions.compare import (
    GRID,
    REGIMES,
    SHARES,
    CaptionOptions,
    align,
    arguments,
    budgets,
    decoded,
    embed_clips,
    mean_of,
    small_bert,
)
from flux_hf.scripts.experiments.captions.words import tokenizer_of
from flux_hf.scripts.experiments.rows import finished_rows, write_rows
from flux_hf.text.captioned_clips import CachedPairs
from flux_hf.text.embedding import embed_texts

COMMAND = "scripts/experiments/captions/manipulation.py"
RESULTS = Path(__file__).parent / "manipulation.json"
OBJECTS = ("door", "drawer", "window", "faucet")
ACTIONS = {"open": ("opens", "opened", "opening"), "close": ("closes", "closed", "closing")}
TASKS = tuple((thing, action) for thing in OBJECTS for action in ACTIONS)
HELD_OUT = (("drawer", "open"), ("window", "close"))
TEMPLATES = (
    "a robot {verb} the {thing}",
    "the {thing} is {passive} by a robot arm",
    "{participle} a {thing}",
    "a video of an arm that {verb} a {thing}",
)


@dataclass
class ManipulationOptions(CaptionOptions):
    data: str = field(kw_only=True, metadata={"help": "Folder in videofolder layout: train and validation."})
    output: str = field(default=str(RESULTS), metadata={"help": "JSON file to write and to go on from."})


def main(argv: list[str] | None = None) -> None:
    (options,) = parse_options(ManipulationOptions, argv, __doc__)
    torch.set_num_threads(1)
    work, output = Path(options.work_dir), Path(options.output)
    train, test = splits(options.data)
    tasks = [task_of(clip) for clip in test["task"]]
    clips = decoded(train, work), decoded(test, work)
    settings = {"files": file_list_hash(train), "test_files": file_list_hash(test), "steps": options.steps}
    rows = finished_rows(output, settings) or [{"regime": "thumbnails", **by_thumbnails(clips, train, tasks)}]
    if any((row["regime"], row.get("seed")) == (options.regime, options.seed) for row in rows):
        print(f"{options.regime}, seed {options.seed}: in {output} already")
        return
    set_seed(options.seed)
    words = tokenizer_of(text for task in TASKS for text in sentences(task))
    args = arguments(
        options, options.regime, str(work / f"manipulation_{options.regime}_{options.seed}_{options.steps}")
    )
    model, processor, seconds = align(args, clips[0], small_bert(words), words)
    classes = np.stack([mean_of(embed_texts(model, processor, sentences(task))) for task in TASKS])
    for budget, share in zip(budgets(), SHARES, strict=True):
        scores = embed_clips(model, processor, clips[1], budget, GRID) @ classes.T
        row = {"regime": options.regime, "seed": options.seed, "cpu_seconds": round(seconds), "tokens": budget}
        rows.append(row | {"share": share, **figures(scores, tasks)})
        print(rows[-1], flush=True)
    head = provenance(f"python {COMMAND}", argv, "scikit-learn")
    write_rows(output, settings, rows, head, order)


def order(row: dict) -> tuple:
    """By which rows are sorted."""
    return ["thumbnails", *REGIMES].index(row["regime"]), row.get("share", 0)


def splits(data: str) -> tuple[Dataset, Dataset]:
    """(train, test): training clips of the tasks that are not held out; all validation clips and the training clips of
    the held-out tasks. Columns `video`, `task` and `captions`."""
    parts = []
    for split in ("train", "validation"):
        rows = load_video_dataset(data, split)
        names = [rows.features["label"].names[label] for label in rows["label"]]
        captions = [sentences(task_of(name)) for name in names]
        parts.append(rows.remove_columns("label").add_column("task", names).add_column("captions", captions))
    unseen = [task_of(name) in HELD_OUT for name in parts[0]["task"]]
    train = parts[0].select(np.flatnonzero(~np.array(unseen)))
    return train, concatenate_datasets([parts[1], parts[0].select(np.flatnonzero(unseen))])


def task_of(name: str) -> tuple[str, str]:
    """(object, action) of a label such as door-open."""
    thing, action = name.split("-")
    return thing, action


def sentences(task: tuple[str, str]) -> list[str]:
    verb, passive, participle = ACTIONS[task[1]]
    return [text.format(thing=task[0], verb=verb, passive=passive, participle=participle) for text in TEMPLATES]


def figures(scores: np.ndarray, tasks: Sequence[tuple[str, str]]) -> dict:
    """Of scores (clips, tasks), for tasks held out (`unseen`) and others (`seen`): `task`, accuracy among all eight;
    `object`, whether the best task has the right one; `action`, of the object's two tasks the right one is nearer."""
    right = np.array([TASKS.index(task) for task in tasks])
    best = scores.argmax(1)
    other = np.array([next(TASKS.index(one) for one in TASKS if one[0] == task[0] and one != task) for task in tasks])
    every = np.arange(len(tasks))
    hits = {
        "task": best == right,
        "object": np.array([TASKS[one][0] == task[0] for one, task in zip(best, tasks, strict=True)]),
        "action": scores[every, right] > scores[every, other],
    }
    unseen = np.array([task in HELD_OUT for task in tasks])
    return {
        said: {"clips": int(which.sum())} | {name: float(values[which].mean()) for name, values in hits.items()}
        for said, which in (("unseen", unseen), ("seen", ~unseen))
    }


def by_thumbnails(clips: tuple[CachedPairs, CachedPairs], train: Dataset, tasks: Sequence[tuple[str, str]]) -> dict:
    """A logistic regression for the object and one for the action, on thumbnails of three frames, told both."""
    from sklearn.linear_model import LogisticRegression

    known, asked = (thumbnails(some, (0, FRAMES // 2, FRAMES - 1)) for some in clips)
    facts = [task_of(name) for name in train["task"]]
    values = OBJECTS, tuple(ACTIONS)
    logs = []
    for number, names in enumerate(values):
        labels = [names.index(fact[number]) for fact in facts]
        logs.append(LogisticRegression(max_iter=1000).fit(known, labels).predict_log_proba(asked))
    scores = np.stack(
        [logs[0][:, OBJECTS.index(thing)] + logs[1][:, values[1].index(action)] for thing, action in TASKS], 1
    )
    return figures(scores, tasks)


if __name__ == "__main__":
    run_command(COMMAND, main)
