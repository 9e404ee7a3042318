"""The table of the page beside this file."""

from pathlib import Path
from statistics import mean

from flux_hf.evaluation.figures import wilson_interval
from flux_hf.evaluation.report import top1_in_percent
from flux_hf.files import read_json
from flux_hf.provenance import result_origin
from flux_hf.tables import table

RESULTS = Path(__file__).parent / "results.json"


def tables(path: Path = RESULTS) -> dict[str, str]:
    """Markdown by the name that documents call it: `surveillance_fights`, a row for every method and budget."""
    found = read_json(path)
    return {"surveillance_fights": f"{accuracy_table(found['rows'])}\n\n{result_origin(found)}"}


def accuracy_table(rows: list[dict]) -> str:
    """Top-1 over the test clips of all folds, the best first, of methods that have every fold."""
    folds = {row["fold"] for row in rows}
    methods = {(row["method"], row["epochs"], row["tokens"]) for row in rows}
    lines = []
    for method, epochs, tokens in methods:
        own = [row for row in rows if (row["method"], row["epochs"], row["tokens"]) == (method, epochs, tokens)]
        if {row["fold"] for row in own} != folds:
            continue
        right, clips = (sum(row[name] for row in own) for name in ("right", "test_clips"))
        figures = {"top1": right / clips, "top1_interval": wilson_interval(right, clips)}
        minutes = mean(row["cpu_seconds"] for row in own) / 60
        line = [method, epochs or "–", tokens or "–", top1_in_percent(figures), f"{minutes:.1f}"]
        lines.append((-right, method, -(tokens or 0), line))
    head = ["method", "epochs", "tokens", "top-1 (95 % interval)", "CPU minutes a fold"]
    return table(head, [line for *_, line in sorted(lines, key=lambda one: one[:3])], "lrrrr")
