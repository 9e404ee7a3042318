"""Where a checkpoint stops working: accuracy against amount of motion, object size and noise, at every budget.

python scripts/experiments/default_checkpoint/curves.py --data 3d=data/motion_3d pictures=data/motion_pictures

The split test of every set needs the columns amount, object_size and noise in its metadata.jsonl.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from flux_hf.cli import run_command
from flux_hf.files import read_json, write_json
from flux_hf.options import check_at_least, check_checkpoints, parse_options
from flux_hf.scripts.experiments.default_checkpoint.optical_flow import named_folders

COMMAND = "scripts/experiments/default_checkpoint/curves.py"
HERE = "scripts/experiments/default_checkpoint"


@dataclass(frozen=True)
class Panel:
    """One curve: the column of the metadata, the labels of the clips that count by how they begin, what the axis says,
    and what the column is multiplied with for it."""

    column: str
    labels: tuple[str, ...]
    axis: str
    scale: float = 1.0


SHIFTS, SCALES, TURNS = ("moves",), ("approaches", "recedes"), ("turns",)
PANELS = {
    "moves": Panel("amount", SHIFTS, "moved, short sides of the picture"),
    "grows": Panel("amount", SCALES, "size changed, |ln| of the factor"),
    "turns": Panel("amount", TURNS, "turned, degrees", 180 / np.pi),
    "object size": Panel("object_size", (*SHIFTS, *SCALES, *TURNS), "object, % of the picture", 100.0),
    "noise": Panel("noise", ("",), "noise, standard deviation of 255"),
}


@dataclass
class CurvesOptions:
    data: list[str] = field(metadata={"help": "Data sets, NAME=DIR."})
    checkpoint: str = field(default="default", metadata={"help": "Checkpoint."})
    bins: int = field(default=5, metadata={"help": "Parts of equally many clips that a column is cut into."})
    num_workers: int = field(default=0, metadata={"help": "Decoding processes beside the main one."})
    records_dir: str = field(default="runs/curves", metadata={"help": "Folder of the answers clip by clip."})
    output: str = field(default=f"{HERE}/results/curves.json", metadata={"help": "JSON to write."})
    plot: str = field(default="docs/images/motion_curves.png", metadata={"help": "Picture to write."})


def main(argv: list[str] | None = None) -> None:
    (options,) = parse_options(CurvesOptions, argv, __doc__)
    check_at_least(1, options, "bins")
    folders = named_folders("data", options.data)
    check_checkpoints(checkpoint=options.checkpoint)
    from flux_hf.checkpoints import checkpoint_path
    from flux_hf.data import load_video_dataset
    from flux_hf.evaluation import evaluate
    from flux_hf.evaluation.records import load_records
    from flux_hf.plugin import load_video_classifier, load_video_processor
    from flux_hf.provenance import provenance
    from flux_hf.scripts.experiments.default_checkpoint.report import draw_curves

    path = checkpoint_path(options.checkpoint)
    model = load_video_classifier(path).eval()
    processor, budgets, found = load_video_processor(path, model), list(model.token_budgets), []
    datasets = {name: load_video_dataset(folder, "test") for name, folder in folders.items()}
    for name, dataset in datasets.items():
        check_columns(dataset.column_names, f"--data {name}={folders[name]}")
    for name, dataset in datasets.items():
        records = Path(options.records_dir, name)
        result = evaluate(
            dataset, model, processor, budgets, num_workers=options.num_workers, records_dir=records, of_classes=False
        )
        read = [record for record in load_records(records) if "reason" not in record]
        rows = np.array([record["row"] for record in read])
        right = np.array([[arm["top"][0] == record["label"] for arm in record["arms"]] for record in read])
        labels = [dataset.features["label"].names[label] for label in np.asarray(dataset["label"][:])[rows]]
        columns = {panel.column: np.asarray(dataset[panel.column][:], float)[rows] for panel in PANELS.values()}
        found.append(
            {key: result[key] for key in ("num_videos", "unreadable", "files", "model")}
            | {"name": name, "token_budgets": budgets, "curves": curves(labels, columns, right, budgets, options.bins)}
        )
    result = provenance(f"python {COMMAND}", argv) | {"options": vars(options), "data": found}
    write_json(options.output, result)
    draw_curves(read_json(options.output), options.plot)


def check_columns(there: list[str], where: str) -> None:
    """Raises ValueError naming the columns that a data set lacks."""
    if missing := sorted({panel.column for panel in PANELS.values()} - set(there)):
        raise ValueError(f"{where}: its metadata.jsonl lacks {', '.join(missing)}; there are {', '.join(there)}")


def curves(
    labels: list[str], columns: dict[str, np.ndarray], right: np.ndarray, budgets: list[int], bins: int
) -> dict[str, list[dict]]:
    """For each of `PANELS` that has clips the points of its curve, ascending: `low`, `high` and `median` of the column
    among the point's clips, in the unit of the axis; `clips`; and `budgets`: budget -> `top1`, `top1_interval` (95 %).

    Args:
        labels: of each clip.
        columns: name -> value of each clip.
        right: bool (clips, budgets), whether the answer is right.
        bins: a curve has as many points, of equally many clips, or fewer: equal values are in one point.
    """
    from flux_hf.evaluation.figures import wilson_interval

    found = {}
    for name, panel in PANELS.items():
        counts = np.array([label.startswith(panel.labels) for label in labels])
        values, hits = panel.scale * columns[panel.column][counts], right[counts]
        if not len(values):
            continue
        place = _bins(values, bins)
        found[name] = [
            {
                "low": float(values[place == one].min()),
                "high": float(values[place == one].max()),
                "median": float(np.median(values[place == one])),
                "clips": int((place == one).sum()),
                "budgets": {
                    budget: {
                        "top1": float(of_budget[place == one].mean()),
                        "top1_interval": wilson_interval(int(of_budget[place == one].sum()), int((place == one).sum())),
                    }
                    for budget, of_budget in zip(budgets, hits.T, strict=True)
                },
            }
            for one in np.unique(place)
        ]
    return found


def _bins(values: np.ndarray, number: int) -> np.ndarray:
    """The number of the part of equally many values that each is in; equal values are in one part."""
    edges = np.quantile(values, np.arange(1, number) / number)
    return np.searchsorted(edges, values, side="left")


if __name__ == "__main__":
    run_command(COMMAND, main)
