"""Put the files of the methods and of the baselines into one, draw the plot, and make the tables of the page.

python scripts/experiments/manipulation_clips/report.py --headline runs/manipulation/headline/*/headline.json
"""

import statistics
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from flux_hf.cli import run_command
from flux_hf.evaluation.report import pyplot
from flux_hf.files import read_json, write_json
from flux_hf.options import parse_options
from flux_hf.provenance import result_origin
from flux_hf.scripts.experiments.headline.report import (
    NAMES,
    draw_methods,
    finish,
    over_seeds,
    percent_and_spread,
    verdict,
)
from flux_hf.tables import percent, table

COMMAND = "scripts/experiments/manipulation_clips/report.py"
FOLDER = Path(__file__).parent
RESULTS, PLOT, SINGLE_FRAME = FOLDER / "results.json", FOLDER / "accuracy.png", FOLDER / "single_frame.json"
COMPUTE_PLOT = FOLDER / "equal_compute.png"
SAVINGS = {"selector": "fixed grid", "token_optimization": "Token Optimization"}
BASELINES = {
    "three_frames": "2D CNN, three frames",
    "cnn": "small 3D CNN",
    "large_cnn": "3D CNN of FluxViT's size",
    "videomae": "VideoMAE of FluxViT's size",
    "differences": "frame differences, logistic regression",
    "flow": "optical flow, random forest",
}
CLASSIFIERS = {"thumbnails": "logistic regression on thumbnails", "cnn": "2D CNN"}
VIEWS = {"first": "first", "middle": "middle", "last": "last", "any": "any", "three": "three in order"}
GROUPS = {
    "random_weights": "Random weights",
    "equal_clips": "Equal clips",
    "equal_compute": "Equal compute",
    "random_light": "Random light",
    "small": "Size of FluxViT-S",
}
"""Methods beside those of the same seconds, by option and by what the page calls them."""
NOT_MEASURED = "Not measured yet."


@dataclass
class ReportOptions:
    headline: list[str] = field(metadata={"help": "Files headline.json of the headline experiment, one or several."})
    random_weights: list[str] = field(
        default_factory=list, metadata={"help": "Such files of methods that started from random weights."}
    )
    equal_clips: list[str] = field(
        default_factory=list, metadata={"help": "Such files of methods that were given the same clips."}
    )
    equal_compute: list[str] = field(
        default_factory=list, metadata={"help": "Such files of methods that were given the same compute, on a GPU."}
    )
    random_light: list[str] = field(
        default_factory=list, metadata={"help": "Such files of equal compute whose training clips had random light."}
    )
    small: list[str] = field(
        default_factory=list, metadata={"help": "Such files of equal compute, of models of the size of FluxViT-S."}
    )
    baselines: str = field(
        default="runs/manipulation/baselines", metadata={"help": "Folder of the files of baselines.py."}
    )
    clips_baselines: str = field(
        default="runs/manipulation/clips_baselines",
        metadata={"help": "The same of baselines with as many clips as the methods of equal_clips."},
    )
    compute_baselines: str = field(
        default="runs/manipulation/compute_baselines",
        metadata={"help": "The same of baselines with as much compute as the methods of equal_compute."},
    )
    output: str = field(default=str(RESULTS), metadata={"help": "JSON file to write."})
    plot: str = field(default=str(PLOT), metadata={"help": "Picture to draw; needs flux_hf[plot]."})
    compute_plot: str = field(default=str(COMPUTE_PLOT), metadata={"help": "The same of equal_compute."})


def main(argv: list[str] | None = None) -> None:
    (options,) = parse_options(ReportOptions, argv, __doc__)
    result = merged(options.headline, options.baselines)
    for name in GROUPS:
        result[name] = methods_of(files) if (files := getattr(options, name)) else None
    for name, folder in (("equal_clips", options.clips_baselines), ("equal_compute", options.compute_baselines)):
        if result[name]:
            result[name]["baselines"] = baselines_of(folder)
    write_json(options.output, result)
    draw(result, options.plot)
    if result["equal_compute"]:
        draw(result["equal_compute"], options.compute_plot)
    print(accuracy_table(result), baselines_table(result), verdict_of(result), sep="\n\n")


def merged(headline: list[str], baselines: str) -> dict:
    """What the files hold: that of [`methods_of`], and `baselines`.

    Raises:
        ValueError: files do not fit together, or the baselines had other clips.
    """
    return methods_of(headline) | {"baselines": baselines_of(baselines)}


def baselines_of(folder: str) -> list[dict]:
    """The files of a folder. Raises ValueError where they are of different clips."""
    found = [read_json(path) for path in sorted(Path(folder).glob("*.json"))]
    if any(one["files"] != found[0]["files"] for one in found):
        raise ValueError(f"{folder}: the files are of different clips")
    return found


def methods_of(headline: list[str]) -> dict:
    """`trainings` (where each file of methods comes from), `rows`, `budgets`, `config` and `runs` of all files.

    Raises:
        ValueError: the methods had other budgets or models, or were given another thing alike, or one was trained
            twice.
    """
    found = [read_json(path) for path in headline]
    first = found[0]
    for path, one in zip(headline, found, strict=True):
        if (one["budgets"], one["config"]) != (first["budgets"], first["config"]):
            raise ValueError(f"{path}: budgets or model are not those of {headline[0]}")
    runs = [name for one in found for name in one["runs"]]
    if twice := sorted({name for name in runs if runs.count(name) > 1}):
        raise ValueError(f"{', '.join(headline)}: {', '.join(twice)} is in several files")
    if len(sames := {row["same"] for one in found for row in one["rows"]}) > 1:
        raise ValueError(f"{', '.join(headline)}: methods with the same {' and with the same '.join(sorted(sames))}")
    content = ("rows", "budgets", "config", "runs")
    return {
        "budgets": first["budgets"],
        "config": first["config"],
        "trainings": [{name: one[name] for name in one if name not in content} for one in found],
        "runs": {name: facts for one in found for name, facts in one["runs"].items()},
        "rows": [row for one in found for row in one["rows"]],
    }


def tables(results: Path = RESULTS, single_frame: Path = SINGLE_FRAME) -> dict[str, str]:
    """Markdown by the name that documents call it; "Not measured yet." where there is no file."""
    compared = {
        "manipulation": origins,
        "manipulation.accuracy": accuracy_table,
        "manipulation.random_weights": of_group("random_weights", accuracy_table),
        "manipulation.equal_clips": of_group("equal_clips", accuracy_table),
        "manipulation.equal_clips.baselines": of_group("equal_clips", baselines_table),
        "manipulation.equal_clips.direction": of_group("equal_clips", direction_table),
        "manipulation.equal_compute": of_group("equal_compute", accuracy_table),
        "manipulation.equal_compute.baselines": of_group("equal_compute", baselines_table),
        "manipulation.equal_compute.direction": of_group("equal_compute", direction_table),
        "manipulation.equal_compute.verdict": of_group("equal_compute", verdict_of),
        "manipulation.random_light": of_group("random_light", accuracy_table),
        "manipulation.small": of_group("small", accuracy_table),
        "manipulation.small.direction": of_group("small", direction_table),
        "manipulation.short": of_group("equal_compute", short_table),
        "manipulation.direction": direction_table,
        "manipulation.baselines": baselines_table,
        "manipulation.verdict": verdict_of,
        "manipulation.best": of_group("equal_compute", best_baseline),
    }
    frames = {
        "manipulation.frame": frame_origin,
        "manipulation.frame.all": frame_table,
        "manipulation.frame.pairs": pair_table,
    }
    made = {}
    for path, writers in ((results, compared), (single_frame, frames)):
        result = read_json(path) if path.exists() else None
        made |= {name: write(result) if result else NOT_MEASURED for name, write in writers.items()}
    return made


def origins(result: dict) -> str:
    """A line for each training of the methods and for the first of each baseline, of all groups of methods."""
    groups = {"": result} | {f"{text}: ": result[name] for name, text in GROUPS.items()}
    lines = []
    for of, group in groups.items():
        if group:
            first = {(one["baseline"], one.get("batch")): one for one in reversed(group.get("baselines", []))}
            lines += [(f"{of}methods", one) for one in group["trainings"]]
            lines += [(f"{of}{BASELINES[name]}", one) for (name, _), one in sorted(first.items(), key=str)]
    return "\n".join(f"- {name}: {result_origin(one)}" for name, one in lines)


def accuracy_table(result: dict) -> str:
    """A row for each method and way of saving tokens, a column for each budget; cost beneath the accuracies of all
    methods on the fixed grid, which is the same for all of them."""
    budgets, lines = result["budgets"], []
    cells = {(row["method"], row["saving"], row["budget"]): row for row in _means(result)}
    for method, name in NAMES.items():
        runs = [facts for run, facts in result["runs"].items() if run.startswith(f"{method}-same_")]
        for saving, text in SAVINGS.items():
            rows = [cells.get((method, saving, budget)) for budget in budgets]
            if any(rows):
                steps = f"{statistics.mean(run['steps'] for run in runs):.0f}"
                lines.append([name, len(runs), steps, text, *map(_cell, rows)])
    for saving, text in SAVINGS.items():
        lines.append(["GMACs", "", "", text, *(_gmacs(cells, saving, budget) for budget in budgets)])
    head = ["trained as", "seeds", "steps", "tokens saved by", *_budget_heads(budgets)]
    return table(head, lines, "lrrl" + "r" * len(budgets))


def of_group(name: str, write: Callable[[dict], str]) -> Callable[[dict], str]:
    """What makes the Markdown of one group of methods of a result."""
    return lambda result: write(result[name]) if result.get(name) else NOT_MEASURED


def short_table(result: dict) -> str:
    """The plain ViT on its fixed grid and every FluxViT with Token Optimization, a column for each budget."""
    cells = {(row["method"], row["saving"], row["budget"]): row for row in _means(result)}
    lines = [
        [name, *(_cell(cells.get((method, saving, budget))) for budget in result["budgets"])]
        for method, name in NAMES.items()
        for saving in ["selector" if method == "plain" else "token_optimization"]
        if (method, saving, result["budgets"][0]) in cells
    ]
    costs = [_gmacs(cells, "token_optimization", budget, "flux_multi") for budget in result["budgets"]]
    lines.append(["GMACs of Flux-Multi", *costs])
    return table(["trained as", *_budget_heads(result["budgets"])], lines, "l" + "r" * len(result["budgets"]))


def direction_table(result: dict) -> str:
    """With Token Optimization: how often the answer is the right task or its opposite, and how often, of these answers,
    it is the right one. Mean over the seeds, in %."""
    groups = defaultdict(list)
    for row in result["rows"]:
        if row["saving"] == "token_optimization" and "backwards" in row:
            groups[row["method"], row["budget"]].append((row["top1"], row["top1"] + row["backwards"]))
    lines = []
    for method, name in NAMES.items():
        found = [groups[method, budget] for budget in result["budgets"]]
        if all(found):
            things = [percent(statistics.mean(pair for _, pair in runs)) for runs in found]
            told = [percent(statistics.mean(right / pair for right, pair in runs)) for runs in found]
            lines.append([name, *(f"{thing} / {right}" for thing, right in zip(things, told, strict=True))])
    return table(["trained as", *_budget_heads(result["budgets"])], lines, "l" + "r" * len(result["budgets"]))


def baselines_table(result: dict) -> str:
    """Size, cost, training and accuracy of each baseline and number of clips a step; mean and deviation over seeds."""
    groups, lines, order = defaultdict(list), [], list(BASELINES)
    for one in result["baselines"]:
        groups[order.index(one["baseline"]), one.get("batch", 0)].append(one)
    for (place, _), group in sorted(groups.items()):
        text = BASELINES[order[place]]
        size, training = ["–", "–"], ["–", "–"]
        if "trials" in group[0]:
            size = [f"{group[0]['parameters'] / 1e6:.1f} M", f"{group[0]['gmacs']:.2f}"]
            trials = [trial for one in group for trial in one["trials"]]
            training = [f"{statistics.mean(trial['steps'] for trial in trials):.0f}", str(group[0]["batch"])]
        accuracy = [_spread([one["test"][figure] for one in group]) for figure in ("top1", "pair")]
        lines.append([text, *size, *training, len(group), *accuracy])
    head = [
        "classifier",
        "parameters",
        "GMACs",
        "steps",
        "clips a step",
        "seeds",
        "top-1 of 28",
        "right one of its pair",
    ]
    return table(head, lines, "l" + "r" * 7)


def verdict_of(result: dict) -> str:
    """That of the methods, and the best baseline."""
    return "\n".join([methods_verdict(result), best_baseline(result)])


def methods_verdict(result: dict) -> str:
    """That of the headline experiment, and the same of training at a quarter of the tokens."""
    methods = verdict(_means(result), result["budgets"], (result["rows"][0]["same"],))
    return "\n".join([methods, *_verdict_of_few(result)])


def best_baseline(result: dict) -> str:
    groups = defaultdict(list)
    for one in result["baselines"]:
        groups[one["baseline"]].append(one)
    if not groups:
        return "Baselines: not measured."
    accuracy = {name: [one["test"]["top1"] for one in group] for name, group in groups.items()}
    best = max(groups, key=lambda name: statistics.mean(accuracy[name]))
    cost = f" at {groups[best][0]['gmacs']:.2f} GMACs" if "gmacs" in groups[best][0] else ""
    return f"Best baseline: {BASELINES[best]}, {_spread(accuracy[best])} %{cost}."


def _verdict_of_few(result: dict) -> list[str]:
    """Training and testing at a quarter of the fixed grid beside the plain ViT at all of it; nothing if one lacks."""
    cells = {(row["method"], row["budget"]): row for row in _means(result) if row["saving"] == "selector"}
    full, quarter = cells.get(("plain", result["budgets"][0])), cells.get(("flux_few", result["budgets"][2]))
    if full is None or quarter is None:
        return []
    return [
        f"Trained at 1/4 of the tokens, FluxViT has {percent_and_spread(quarter)} with them, the plain ViT at all "
        f"tokens {percent_and_spread(full)}, for {100 * quarter['gmacs'] / full['gmacs']:.0f} % of its GMACs."
    ]


def draw(result: dict, path: str | Path) -> None:
    """Accuracy against GMACs of the methods and of their baselines that have GMACs.

    Raises:
        ImportError: matplotlib is not installed (extra `plot`).
    """
    plt = pyplot()
    figure, axes = plt.subplots(figsize=(9.5, 4.5), layout="constrained")
    draw_methods(axes, _means(result), result["rows"][0]["same"])
    groups = defaultdict(list)
    for one in result["baselines"]:
        if "gmacs" in one:
            groups[one["baseline"]].append(one)
    for (name, group), mark in zip(groups.items(), "sD^v", strict=False):
        values = [100 * one["test"]["top1"] for one in group]
        deviation = statistics.stdev(values) if len(values) > 1 else 0
        look = {"fmt": mark, "color": "black", "mfc": "white", "capsize": 3, "label": BASELINES[name]}
        axes.errorbar(group[0]["gmacs"], statistics.mean(values), deviation, **look)
    finish(axes)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def frame_origin(result: dict) -> str:
    clips = ", ".join(f"{count} {name} clips" for name, count in result["clips"].items())
    return f"{result_origin(result)} {clips}."


def frame_table(result: dict) -> str:
    """For every classifier and frame how often it tells a pair apart and the task among all; mean over seeds."""
    groups = defaultdict(list)
    for row in result["rows"]:
        groups[row["view"], row["classifier"], row["split"]].append(row)
    splits = list(dict.fromkeys(row["split"] for row in result["rows"]))
    lines = [
        [VIEWS[view], CLASSIFIERS[name]]
        + [
            percent(statistics.mean(row[figure] for row in groups[view, name, split]))
            for figure in ("pair", "top1")
            for split in splits
        ]
        for view in VIEWS
        for name in CLASSIFIERS
    ]
    head = ["frame", "classifier"] + [f"{text}, {split}" for text in ("pair", "28 tasks") for split in splits]
    return table(head, lines, "ll" + "r" * 2 * len(splits))


def pair_table(result: dict) -> str:
    """For every pair how often the 2D CNN tells it apart, on the clips of all splits that it was tested on."""
    splits = list(dict.fromkeys(row["split"] for row in result["rows"]))
    weights = [result["clips"][split] for split in splits]

    def share(pair: str, view: str) -> str:
        values = [
            statistics.mean(_of(result, view, "cnn", split, pair)) * weight
            for split, weight in zip(splits, weights, strict=True)
        ]
        return percent(sum(values) / sum(weights))

    pairs = list(result["rows"][0]["pairs"])
    return table(
        ["pair", *VIEWS.values()],
        [[pair, *(share(pair, view) for view in VIEWS)] for pair in pairs],
        "l" + "r" * len(VIEWS),
    )


def _of(result: dict, view: str, classifier: str, split: str, pair: str) -> list[float]:
    wanted = (view, classifier, split)
    return [row["pairs"][pair] for row in result["rows"] if (row["view"], row["classifier"], row["split"]) == wanted]


def _means(result: dict) -> list[dict]:
    return over_seeds(result["rows"])


def _cell(row: dict | None) -> str:
    return "–" if row is None else percent_and_spread(row)


def _budget_heads(budgets: list[int]) -> list[str]:
    return [f"all ({budgets[0]})", *(f"1/{round(budgets[0] / budget)} ({budget})" for budget in budgets[1:])]


def _gmacs(cells: dict, saving: str, budget: int, method: str | None = None) -> str:
    """Mean over the methods, or of one: with Token Optimization each has grids of its own."""
    values = [
        row["gmacs"]
        for (of, how, tokens), row in cells.items()
        if (how, tokens) == (saving, budget) and method in (None, of)
    ]
    return f"{statistics.mean(values):.3f}" if values else "–"


def _spread(values: list[float]) -> str:
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return percent(statistics.mean(values)) + ("" if deviation is None else f" ± {percent(deviation)}")


if __name__ == "__main__":
    run_command(COMMAND, main)
