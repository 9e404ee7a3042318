"""The tables of the page docs/own_clips.md."""

from pathlib import Path
from statistics import mean, stdev

from flux_hf.files import read_json
from flux_hf.provenance import result_origin
from flux_hf.tables import percent, table

HERE = Path(__file__).parent
RESULTS = HERE / "results.json"
VARIANTS = {name: HERE / f"results_{name}.json" for name in ("drawn_grids", "random_weights")}


def tables(path: Path = RESULTS, variants: dict[str, Path] = VARIANTS) -> dict[str, str]:
    """Markdown by the name that documents call it: `own_clips`, where the figures come from, `own_clips.accuracy`,
    FluxViT beside the other classifiers, and for every variant, FluxViT trained in another way, `own_clips.NAME` and
    `own_clips.NAME.origin`."""
    found = read_json(path)
    rows = found["rows"]
    budgets = _budgets(rows)
    return {
        "own_clips": (
            f"{result_origin(found)}\n\n{len(found['settings']['label_names'])} classes, {rows[0]['test_clips']} test "
            "clips a seed; top-1 in %, mean ± standard deviation over the seeds."
        ),
        "own_clips.accuracy": table(
            [*_columns(budgets), "2D CNN, three frames", "three thumbnails", "majority"],
            [
                _of_training(rows, clips, epochs)
                + [_top1(rows, "three_frames", clips, epochs)]
                + [_top1(rows, method, clips) for method in ("thumbnails", "majority")]
                for clips, epochs in _trainings(rows)
            ],
            "r" * (8 + len(budgets)),
        ),
    } | {key: text for name, file in variants.items() for key, text in _variant(f"own_clips.{name}", file).items()}


def _variant(name: str, file: Path) -> dict[str, str]:
    found = read_json(file)
    rows = found["rows"]
    lines = [_of_training(rows, clips, epochs) for clips, epochs in _trainings(rows)]
    columns = _columns(_budgets(rows))
    return {name: table(columns, lines, "r" * len(columns)), f"{name}.origin": result_origin(found)}


def _budgets(rows: list[dict]) -> list[int]:
    return sorted({row["tokens"] for row in rows if row["tokens"]}, reverse=True)


def _trainings(rows: list[dict]) -> list[tuple]:
    trainings = {(row["clips"], row["epochs"]) for row in rows if row["method"] == "flux"}
    return sorted(trainings, key=lambda training: (training[0], training[1] or 0))


def _columns(budgets: list[int]) -> list[str]:
    return [
        "clips a class",
        "epochs",
        "steps",
        "seeds",
        "CPU minutes",
        *(f"FluxViT, {tokens} tokens" for tokens in budgets),
    ]


def _of_training(rows: list[dict], clips: int, epochs: int | None) -> list:
    """What [`_columns`] say of FluxViT."""
    own = [row for row in rows if _is(row, "flux", clips, epochs)]
    return [
        clips,
        epochs or "recipe's",
        own[0]["steps"],
        len({row["seed"] for row in own}),
        f"{mean(row['cpu_seconds'] for row in own) / 60:.1f}",
        *(_top1(rows, "flux", clips, epochs, tokens) for tokens in _budgets(rows)),
    ]


def _is(row: dict, method: str, clips: int, epochs=None, tokens=None) -> bool:
    """Whether a row is of such a classifier; of any budget where `tokens` is None."""
    wanted = {"method": method, "clips": clips, "epochs": epochs} | ({} if tokens is None else {"tokens": tokens})
    return wanted.items() <= row.items()


def _top1(rows: list[dict], *which) -> str:
    values = [row["top1"] for row in rows if _is(row, *which)]
    if not values:
        return "–"
    return percent(mean(values)) + (f" ± {percent(stdev(values))}" if len(values) > 1 else "")
