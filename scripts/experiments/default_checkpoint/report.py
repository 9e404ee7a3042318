"""Tables and plots of what was measured on the default checkpoint."""

from collections.abc import Sequence
from pathlib import Path

from flux_hf.evaluation.figures import wilson_interval
from flux_hf.evaluation.report import answered_shares, pyplot, top1_in_percent
from flux_hf.files import read_json, whole_file
from flux_hf.provenance import result_origin
from flux_hf.scripts.experiments.default_checkpoint.curves import PANELS
from flux_hf.tables import markdown, percent, table
from flux_hf.token_optimization.adaptive import changes_gain
from flux_hf.token_optimization.search import sign_test

RESULTS = Path(__file__).parent / "results"
BUDGETS = ("256", "128", "64")
SETS = {
    "rendered": "rendered",
    "space": "bodies in space",
    "photographs": "photographs, six codecs",
    "composed": "composed by another program, never trained on",
}
"""Test sets by the names of their result files and of the flow baseline, and what tables call them."""
FILMS = {
    "development": "real films that it was made and calibrated with",
    "test": "real films with depth and turning, known and calibrated with",
    "second_test": "real films with depth and turning, known and calibrated with",
    "third_test": "real films with depth and turning, unseen",
}
"""Parts of the real films by the names of their folders, and what tables call them."""
KINDS = {
    "what comes or goes": {"approaches", "recedes"},
    "what turns": {"turns_clockwise", "turns_counterclockwise"},
    "what crosses the picture": {"moves_down", "moves_left", "moves_right", "moves_up"},
    "what is still": {"still"},
}
"""Labels of the real films by what tables call them together."""
BEFORE = "runs/checkpoint_hands"
"""The checkpoint before, as results of the real films name it."""
UNSEEN = {
    "endless_5": "no file, 5 layers",
    "endless": "no file, 7 layers",
}
"""What trainings that saw no file are called; names of result files begin with theirs."""
SHIPPED = "then files of the first three kinds, then no file (shipped)"


def tables(folder: Path = RESULTS) -> dict[str, str]:
    """Markdown by the name that documents call it."""
    of_set = {name: read_json(folder / f"{name}.json") for name in SETS}
    search, flow, adaptive, composed = (
        read_json(folder / f"{name}.json")
        for name in ("token_optimization", "optical_flow", "adaptive_budget", "adaptive_composed")
    )
    films = {part: read_json(folder / f"real_films_{part}.json") for part in FILMS}
    turned = {part: read_json(folder / f"real_films_{part}_turned.json") for part in FILMS}
    return {
        "default_checkpoint.accuracy": accuracy_table(of_set, flow, films),
        **{f"default_checkpoint.films.{part}": films_table(films[part], turned[part]) for part in FILMS},
        "default_checkpoint.unseen": unseen_table(of_set, flow, folder),
        "default_checkpoint.seen": seen(read_json(folder / "photographs_training.json"), of_set["photographs"]),
        "default_checkpoint.confusion.rendered": confusion(of_set["rendered"]),
        "default_checkpoint.confusion.photographs": confusion(of_set["photographs"]),
        "default_checkpoint.token_optimization": table(
            ["tokens", "top-1 before", "grid found", "top-1 with it"],
            [
                [budget, top1_in_percent(search["test"]["before"]["budgets"][budget])]
                + ["{} x {}²".format(*search["budgets"][budget]["grid"])]
                + [top1_in_percent(search["test"]["after"]["budgets"][budget])]
                for budget in BUDGETS
            ],
            "rrlr",
        ),
        "default_checkpoint.adaptive_budget": adaptive_table(adaptive),
        "default_checkpoint.adaptive_composed": composed_table(composed),
        "default_checkpoint.optical_flow": flow_table(flow),
        "default_checkpoint.curves": curves_table(read_json(folder / "curves.json")),
    }


def accuracy_table(of_set: dict[str, dict], flow: dict, films: dict[str, dict]) -> str:
    """A row for each test set: the optical-flow baseline fitted on all training sets, and the checkpoint."""
    rows = [
        [f"{SETS[name]} ({result['num_videos']})", top1_in_percent(_flow_row(flow, name, left_out=False))]
        + [top1_in_percent(result["budgets"][budget]) for budget in BUDGETS]
        for name, result in of_set.items()
    ]
    for name in dict.fromkeys(FILMS.values()):
        sets = [found for part, filmed in films.items() if FILMS[part] == name for found in filmed["data"]]
        rows.append(_films_row(name, sets, top1_in_percent))
    gmacs = (f"{next(iter(of_set.values()))['budgets'][budget]['gmacs']:.3f}" for budget in BUDGETS)
    head = ["test clips", "optical flow", *(f"{budget} tokens" for budget in BUDGETS)]
    return table(head, [*rows, ["GMACs", "–", *gmacs]], "l" + "r" * (1 + len(BUDGETS)))


def films_table(filmed: dict, turned: dict) -> str:
    """A row for each data set of a part of `real_films/`: the baseline and the checkpoint; one for each kind of label;
    then all together, as they were filmed and in their other versions, also by the checkpoint before. Below it on how
    many clips only one of the two is right, and where it comes from."""
    rows = [
        _films_row(found["name"].replace("_", " "), [found], lambda row: percent(row["top1"]), also=["auto"])
        for found in filmed["data"]
    ]
    for kind, labels in KINDS.items():
        of_kind = [_only(found, labels) for found in filmed["data"]]
        rows.append(_films_row(kind, of_kind, lambda row: percent(row["top1"]), also=["auto"]))
    for name, result in (("all", filmed), ("all, turned and played backwards", turned)):
        for named, checkpoint in ((name, "default"), (f"{name}: the checkpoint before", BEFORE)):
            rows.append(_films_row(named, result["data"], top1_in_percent, checkpoint, also=["auto"]))
    head = ["films", "optical flow", *(f"{budget} tokens" for budget in BUDGETS), "auto"]
    alone = f"{_alone('As filmed', filmed)}\n\n{_alone('Turned and played backwards', turned)}"
    return f"{table(head, rows, 'l' + 'r' * (len(head) - 1))}\n\n{alone}\n\n{result_origin(filmed)}"


def _only(found: dict, labels: set[str]) -> dict:
    """A test set as if it had only the clips of some labels."""
    clips = sum(found["labels"].get(label, 0) for label in labels)
    right = [sum(row["right"].get(label, 0) for label in labels) for row in found["rows"]]
    rows = [row | {"top1": of_row / max(clips, 1)} for row, of_row in zip(found["rows"], right, strict=True)]
    return {"clips": clips, "rows": rows}


def _films_row(name: str, sets: list[dict], shown, checkpoint: str = "default", also: Sequence[str] = ()) -> list[str]:
    """Its name with the number of clips, and what `shown` makes of each method's accuracy on all `sets` together, the
    checkpoint's at each of `BUDGETS` and `also`."""
    clips = sum(found["clips"] for found in sets)
    accuracies = []
    for budget in (None, *BUDGETS, *also):
        rows = [_method_row(found, budget, checkpoint) for found in sets]
        right = sum(round(row["top1"] * found["clips"]) for row, found in zip(rows, sets, strict=True))
        accuracies.append({"top1": right / clips, "top1_interval": wilson_interval(right, clips)})
    return [f"{name} ({clips})", *map(shown, accuracies)]


def _method_row(found: dict, budget: str | None, checkpoint: str = "default") -> dict:
    """The row of a test set: of the baseline fitted on all training sets, or of a checkpoint at a budget."""
    if budget is None:
        return next(row for row in found["rows"] if row["fitted_on"])
    return next(row for row in found["rows"] if (row["method"], str(row["token_budget"])) == (checkpoint, budget))


def _alone(versions: str, result: dict) -> str:
    texts = []
    for budget in BUDGETS:
        pairs = [_method_row(found, budget)["paired"] for found in result["data"]]
        model, flow = (sum(pair[side] for pair in pairs) for side in ("checkpoint", "flow"))
        p = min(1.0, 2 * sign_test(max(model, flow), min(model, flow)))
        texts.append(f"{model} : {flow} at {budget} tokens (p = {p:.2g})")
    return f"{versions}, clips on which only the model is right : only the baseline: {', '.join(texts)}."


def seen(training: dict, test: dict) -> str:
    """How often the checkpoint is right on clips that it was trained on, and on others."""
    trained, others = (
        " / ".join(percent(result["budgets"][budget]["top1"]) for budget in BUDGETS) for result in (training, test)
    )
    return (
        f"On {training['num_videos']} of the photograph clips that it was trained on it has {trained} % at "
        f"{' / '.join(BUDGETS)} tokens, on others {others} %."
    )


def unseen_table(of_set: dict[str, dict], flow: dict, folder: Path) -> str:
    """For each test set: the baseline fitted on other kinds of clips, models that were trained on no file, and the
    checkpoint, which goes on from one of them with files."""
    rows = []
    for name, shipped in of_set.items():
        clips = f"{SETS[name]} ({shipped['num_videos']})"
        flow_row = _flow_row(flow, name, left_out=True)
        rows.append([clips, "optical flow, fitted on other kinds of clips", top1_in_percent(flow_row), "", ""])
        results = {text: read_json(folder / f"{start}_{name}.json") for start, text in UNSEEN.items()}
        for text, result in (results | {SHIPPED: shipped}).items():
            rows.append([clips, text, *(top1_in_percent(result["budgets"][budget]) for budget in BUDGETS)])
    return table(
        ["test clips", "trained on", *(f"{budget} tokens" for budget in BUDGETS)], rows, "ll" + "r" * len(BUDGETS)
    )


def _flow_row(flow: dict, name: str, *, left_out: bool) -> dict:
    """The row of the baseline for a test set: fitted on all training sets, or on all but its own."""
    (found,) = (data for data in flow["data"] if data["name"] == name)
    fitted = [row for row in found["rows"] if row["fitted_on"]]
    return min(fitted, key=lambda row: len(row["fitted_on"])) if left_out else fitted[0]


def adaptive_table(result: dict) -> str:
    """Fixed budgets and "auto" on the clips that calibration did not see, and how often each budget answered."""
    fixed = result["test"]["budgets"]
    largest = fixed[BUDGETS[0]]["gmacs"]
    rows = [
        [name, f"{figures['gmacs']:.3f}", f"{figures['gmacs'] / largest:.2f}", top1_in_percent(figures)]
        + [answered_shares(figures) or "–"]
        for name, figures in fixed.items()
    ]
    head = ["tokens", "mean GMACs", f"of those of {BUDGETS[0]}", "top-1 (95 % interval)", "answered at"]
    paired = result["paired"]
    below = (
        f"{result['test']['num_videos']} test clips of three generators; thresholds chosen on "
        f"{result['calibration']['videos']} others for {result['target']}. auto alone is right on {paired['auto']}, "
        f"{BUDGETS[0]} tokens alone on {paired['largest']} (sign test: p = {paired['p']:.2g}).\n{changes_gain(result)}"
    )
    return f"{table(head, rows, 'rrrrl')}\n\n{below}".rstrip()


def composed_table(result: dict) -> str:
    """Fixed budgets and "auto", with the look at what changes and without, on clips unlike those of the training."""
    figures = dict(result["budgets"])
    if result["without_changes"] is not None:
        figures["auto, without a look at what changes"] = result["without_changes"]
    rows = [
        [name, f"{each['gmacs']:.3f}", top1_in_percent(each), answered_shares(each) or "–"]
        for name, each in figures.items()
    ]
    gain = changes_gain(result)
    return (
        f"{table(['tokens', 'mean GMACs', 'top-1 (95 % interval)', 'answered at'], rows, 'rrrl')}\n\n"
        f"{result['num_videos']} composed clips of pictures that neither training nor calibration saw.\n{gain}"
    ).rstrip()


def flow_table(result: dict) -> str:
    """A row for each test set and method: the baseline, on all training sets and on all but the test set's own, and
    each checkpoint at its budgets. Below it where the figures come from."""
    rows = []
    for found in result["data"]:
        for row in found["rows"]:
            name, paired = row["method"], row.get("paired")
            if row["fitted_on"]:
                name += f", fitted on {', '.join(row['fitted_on'])}"
            rows.append(
                [markdown(found["name"]), found["clips"], markdown(name), row["token_budget"] or "–"]
                + [top1_in_percent(row), f"{row['milliseconds']:.1f}"]
                + [f"{paired['checkpoint']} : {paired['flow']} ({paired['p']:.2g})" if paired else "–"]
            )
    head = [
        "test set",
        "clips",
        "method",
        "tokens",
        "top-1 (95 % interval)",
        "ms a clip",
        "right alone : flow alone (p)",
    ]
    return f"{table(head, rows, 'lrlrrrr')}\n\n{result_origin(result)}"


def curves_table(result: dict) -> str:
    """A row for each point of each curve of each data set: of which clips, and top-1 at every budget."""
    budgets = [str(budget) for budget in result["data"][0]["token_budgets"]]
    rows = [
        [markdown(found["name"]), PANELS[name].axis, f"{point['low']:.3g} to {point['high']:.3g}", point["clips"]]
        + [top1_in_percent(point["budgets"][budget]) for budget in budgets]
        for found in result["data"]
        for name, points in found["curves"].items()
        for point in points
    ]
    head = ["data set", "what", "of clips with", "clips", *(f"{budget} tokens" for budget in budgets)]
    return f"{table(head, rows, 'lllr' + 'r' * len(budgets))}\n\n{result_origin(result)}"


def draw_curves(result: dict, path: str | Path) -> None:
    """Top-1 with its 95 % interval against the columns of `PANELS`: a row of panels for each data set, a line for each
    budget, a point at the median of its clips.

    Raises:
        ImportError: matplotlib is not installed (extra `plot`).
    """
    plt = pyplot()
    size = {"figsize": (2.9 * len(PANELS), 2.6 * len(result["data"])), "layout": "constrained"}
    figure, panels = plt.subplots(len(result["data"]), len(PANELS), sharey=True, squeeze=False, **size)
    for row, found in zip(panels, result["data"], strict=True):
        for panel, name in zip(row, PANELS, strict=True):
            points = found["curves"].get(name, [])
            for budget in found["token_budgets"]:
                figures = [point["budgets"][str(budget)] for point in points]
                middles, top1 = [point["median"] for point in points], [100 * one["top1"] for one in figures]
                bounds = [[100 * one["top1_interval"][side] for one in figures] for side in (0, 1)]
                (line,) = panel.plot(middles, top1, marker="o", ms=3, lw=1.2, label=f"{budget} tokens")
                panel.fill_between(middles, *bounds, color=line.get_color(), alpha=0.12, lw=0)
            panel.set_xlabel(PANELS[name].axis, fontsize=8)
            panel.grid(alpha=0.3)
        row[0].set_ylabel(f"{found['name']}\ntop-1 accuracy, %")
    panels[0][0].legend(frameon=False, fontsize=8, loc="lower right")
    with whole_file(path) as partial:
        figure.savefig(partial, dpi=120)
    plt.close(figure)


def confusion(result: dict) -> str:
    """Number of clips by true label (rows) and answer at the largest budget; a point for none."""
    names = result["label_names"]
    rows = zip(names, result["budgets"][BUDGETS[0]]["confusion"], strict=True)
    lines = [[name, *(count or "·" for count in counts)] for name, counts in rows]
    return table(["true", *names], lines, "l" + "r" * len(names))
