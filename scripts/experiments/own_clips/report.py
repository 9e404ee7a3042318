"""The tables of the page docs/own_clips.md."""

from pathlib import Path
from statistics import mean, stdev

from flux_hf.files import read_json
from flux_hf.provenance import result_origin
from flux_hf.tables import percent, table

RESULTS = Path(__file__).parent / "results.json"


def tables(path: Path = RESULTS) -> dict[str, str]:
    """Markdown by the name that documents call it: `own_clips`, where the figures come from, `own_clips.accuracy`,
    FluxViT read exactly beside the other classifiers, and `own_clips.decoding`, its two ways of reading."""
    found = read_json(path)
    rows = found["rows"]
    budgets = sorted({row["tokens"] for row in rows if row["tokens"]}, reverse=True)
    trainings = sorted({(row["clips"], row["epochs"]) for row in rows if row["method"] == "flux"})
    return {
        "own_clips": (
            f"{result_origin(found)}\n\n{len(found['settings']['label_names'])} classes, {rows[0]['test_clips']} test "
            "clips a seed; top-1 in %, mean ± standard deviation over the seeds."
        ),
        "own_clips.accuracy": table(
            ["clips a class", "epochs", "seeds", "CPU minutes", *(f"FluxViT, {tokens} tokens" for tokens in budgets)]
            + ["3D CNN, the same minutes", "three thumbnails", "majority"],
            [
                [clips, epochs, len({row["seed"] for row in rows if _is(row, "flux", clips, epochs)})]
                + [f"{mean(row['cpu_seconds'] for row in rows if _is(row, 'flux', clips, epochs)) / 60:.1f}"]
                + [_top1(rows, "flux", clips, epochs, tokens, "exact") for tokens in budgets]
                + [_top1(rows, "cnn", clips, epochs)]
                + [_top1(rows, method, clips) for method in ("thumbnails", "majority")]
                for clips, epochs in trainings
            ],
            "r" * (7 + len(budgets)),
        ),
        "own_clips.decoding": table(
            ["clips a class", "epochs", "decoding", *(f"{tokens} tokens" for tokens in budgets)],
            [
                [clips, epochs, decoding, *(_top1(rows, "flux", clips, epochs, tokens, decoding) for tokens in budgets)]
                for clips, epochs in trainings
                for decoding in ("exact", "fast")
            ],
            "rrl" + "r" * len(budgets),
        ),
    }


def _is(row: dict, method: str, clips: int, epochs=None, tokens=None, decoding=None) -> bool:
    """Whether a row is of such a classifier; of any budget and way of reading where they are None."""
    wanted = {"method": method, "clips": clips, "epochs": epochs}
    wanted |= {name: value for name, value in (("tokens", tokens), ("decoding", decoding)) if value is not None}
    return wanted.items() <= row.items()


def _top1(rows: list[dict], *which) -> str:
    values = [row["top1"] for row in rows if _is(row, *which)]
    if not values:
        return "–"
    return percent(mean(values)) + (f" ± {percent(stdev(values))}" if len(values) > 1 else "")
