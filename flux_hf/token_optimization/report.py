"""A Token Optimization for people: heat map per budget, accuracy against cost, Markdown table."""

from pathlib import Path

import numpy as np

from flux_hf.evaluation.report import pyplot, top1_in_percent
from flux_hf.files import whole_file
from flux_hf.tables import table
from flux_hf.token_optimization.search import SIGNIFICANCE, alone_right, sign_test

SCORE_NAMES = {"accuracy": "top-1", "zero_shot": "zero-shot top-1", "retrieval": "R@1 video to text"}
COST_NAMES = {"tokens": "tokens kept", "gmacs": "GMACs", "latency_ms": "ms from file to answer"}


def score_name(result: dict) -> str:
    """What the figures of a result are."""
    return SCORE_NAMES[result.get("score", "accuracy")]


def heat_map(budget: int, found: dict) -> dict:
    """Accuracies of one budget as a table like the paper's Table 11.

    Returns:
        `frames` and `sizes` (the axes), `accuracy` and `videos` (rows: frames), None where no grid was tried.
    """
    frames = sorted({entry["grid"][0] for entry in found["grids"]})
    sizes = sorted({entry["grid"][1] for entry in found["grids"]})
    known = {tuple(entry["grid"]): entry for entry in found["grids"]}

    def cells(name: str) -> list[list]:
        return [[known[f, s][name] if (f, s) in known else None for s in sizes] for f in frames]

    return {
        "token_budget": budget,
        "frames": frames,
        "sizes": sizes,
        "accuracy": cells("accuracy"),
        "videos": cells("videos"),
        "best": found["grid"],
    }


def plot_heat_maps(maps: list[dict], path: str | Path, score: str = "top-1"):
    """One panel for each of `maps` (see `heat_map`). A cell says accuracy in percent and on how many videos; pale
    numbers were tried on fewer videos than the winner, empty cells have fewer tokens than the budget.

    Raises:
        ImportError: matplotlib is not installed (extra `plot`).
    """
    plt = pyplot()
    widths = [max(2.6, 0.95 * len(entry["sizes"]) + 0.9) for entry in maps]
    tallest = max(len(entry["frames"]) for entry in maps)
    figure, panels = plt.subplots(
        1,
        len(maps),
        figsize=(sum(widths), 0.62 * tallest + 1.5),
        width_ratios=widths,
        squeeze=False,
        layout="constrained",
    )
    for axes, entry in zip(panels[0], maps, strict=True):
        values = np.array([[np.nan if a is None else 100 * a for a in row] for row in entry["accuracy"]])
        axes.imshow(values, cmap="viridis", aspect="auto", vmin=np.nanmin(values) - 1e-6, vmax=np.nanmax(values))
        middle = (np.nanmin(values) + np.nanmax(values)) / 2
        most = max(count for row in entry["videos"] for count in row if count is not None)
        for row, column in zip(*np.nonzero(~np.isnan(values)), strict=True):
            count = entry["videos"][row][column]
            best = [entry["frames"][row], entry["sizes"][column]] == entry["best"]
            dark = values[row, column] < middle
            style = {
                "ha": "center",
                "va": "center",
                "color": "white" if dark else "black",
                "alpha": 1.0 if count == most else 0.65,
            }
            axes.text(
                column, row - 0.1, f"{values[row, column]:.1f}", fontsize=10, weight="bold" if best else None, **style
            )
            axes.text(column, row + 0.27, f"of {count}", fontsize=6.5, **style)
            if best:
                axes.add_patch(plt.Rectangle((column - 0.47, row - 0.47), 0.94, 0.94, fill=False, lw=2.5, ec="#e4572e"))
        axes.set_xticks(range(len(entry["sizes"])), [f"{size}²" for size in entry["sizes"]])
        axes.set_yticks(range(len(entry["frames"])), entry["frames"])
        axes.set(title=f"{entry['token_budget']} tokens", xlabel="size, pixels")
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
    panels[0][0].set_ylabel("frames")
    figure.suptitle(f"{score} in %, calibration split")
    with whole_file(path) as partial:
        figure.savefig(partial, dpi=150)
    plt.close(figure)


def accuracy_cost_front(result: dict) -> list[dict]:
    """The grids of the last round, of all budgets, that no other one beats in accuracy at the same or lower cost,
    cheapest first. Each has `token_budget`, `grid`, `cost`, `accuracy`."""
    points = finalists(result)
    front, best = [], -1.0
    for point in sorted(points, key=lambda point: (point["cost"], -point["accuracy"])):
        if point["accuracy"] > best:
            front.append(point)
            best = point["accuracy"]
    return front


def finalists(result: dict) -> list[dict]:
    """Every grid that was tried on all videos: `token_budget`, `grid`, `cost`, `accuracy`."""
    return [
        {
            "token_budget": int(budget),
            "grid": entry["grid"],
            "cost": entry["cost"],
            "accuracy": entry["accuracy"],
        }
        for budget, found in result["budgets"].items()
        for entry in found["grids"]
        if entry["rounds"] == result["rule"]["rounds"] and entry["accuracy"] is not None
    ]


def plot_front(result: dict, path: str | Path):
    """Accuracy against cost: all finalists on the calibration split, and their front.

    Raises:
        ImportError: matplotlib is not installed (extra `plot`).
    """
    plt = pyplot()
    figure, axes = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    points = finalists(result)
    budgets = sorted({point["token_budget"] for point in points}, reverse=True)
    for place, budget in enumerate(budgets):
        own = [point for point in points if point["token_budget"] == budget]
        color = plt.get_cmap("viridis")(0.1 + 0.75 * place / max(len(budgets) - 1, 1))
        axes.scatter(
            [p["cost"] for p in own], [100 * p["accuracy"] for p in own], color=color, s=36, label=f"{budget} tokens"
        )
    front = accuracy_cost_front(result)
    axes.step(
        [p["cost"] for p in front], [100 * p["accuracy"] for p in front], where="post", color="#e4572e", label="front"
    )
    for place, point in enumerate(front):
        axes.annotate(
            _grid(point["grid"]),
            (point["cost"], 100 * point["accuracy"]),
            (-4, 7) if place % 2 else (6, -11),
            textcoords="offset points",
            fontsize=8,
        )
    axes.margins(x=0.15, y=0.15)
    axes.set(xlabel=COST_NAMES[result["rule"]["objective"]], ylabel=f"{score_name(result)}, %, calibration split")
    axes.grid(alpha=0.3)
    axes.legend(framealpha=0.8, loc="best")
    with whole_file(path) as partial:
        figure.savefig(partial, dpi=150)
    plt.close(figure)


def markdown_table(result: dict) -> str:
    """Grids before and after with their accuracy on the test split, and what the search cost."""
    compute, tested = result["compute"], result["test"]["after"]["num_videos"]
    score = score_name(result)
    head = ["tokens", "grid before", score, "GMACs", "optimised grid", score, "GMACs"]
    rows = []
    for budget in result["budgets"]:
        before, after = result["test"]["before"]["budgets"][budget], result["test"]["after"]["budgets"][budget]
        cells = [[_grid(e["grid"]), top1_in_percent(e), f"{e['gmacs']:.3f}"] for e in (before, after)]
        rows.append([budget, *cells[0], *cells[1]])
    return (
        f"{table(head, rows, 'rlrrlrr')}\n\n"
        f"{score[0].upper()}{score[1:]} in % (95 % interval) on {tested} videos of {_test_videos(result)}, "
        f"which the search did not see.{_warning(result)} The search tried {compute['evaluations']} of "
        f"{compute['exhaustive']} pairs of video and grid ({100 * compute['share']:.0f} %), {compute['gmacs']:.0f} of "
        f"{compute['gmacs_exhaustive']:.0f} GMACs.\n"
    )


def _test_videos(result: dict) -> str:
    splits = result["splits"]
    return f"the other half of the {splits['test']} split" if splits["halves"] else f"the {splits['test']} split"


def _warning(result: dict) -> str:
    splits = (result["splits"][name] for name in ("test", "calibration"))
    learned = next((split for split in splits if split.startswith("train")), None)
    if learned is None:
        return ""
    return f" If the model has learned from the {learned} split, this does not say how it does on new videos."


def paired_comparison(before: list[dict], after: list[dict], token_budgets: list[int]) -> dict[int, dict]:
    """For each budget: on how many videos only the new grid is right (`after`), on how many only the old one
    (`before`), and `p`, the two-sided sign test of the two (1 where no video differs).

    Args:
        before, after: records of the same videos, as `evaluate` leaves them in its `records_dir`.
        token_budgets: in the order of the records.
    """
    hits = [
        {r["row"]: [answer["top"][0] == r["label"] for answer in r["arms"]] for r in records if "reason" not in r}
        for records in (before, after)
    ]
    rows = sorted(hits[0].keys() & hits[1].keys())
    compared = {}
    for place, budget in enumerate(token_budgets):
        old, new = ([found[row][place] for row in rows] for found in hits)
        more, fewer = alone_right(new, old)
        p = min(1.0, 2 * sign_test(max(more, fewer), min(more, fewer)))
        compared[budget] = {"after": more, "before": fewer, "p": p}
    return compared


def what_it_tells(result: dict) -> str:
    """In words, for each budget: whether the test split tells the grids before and after apart, and which grids the
    calibration split cannot tell from the one found."""
    videos, calibration = result["test"]["after"]["num_videos"], result["compute"]["videos"]
    lines = []
    for budget, found in result["budgets"].items():
        old, new = (_grid(result["test"][name]["budgets"][budget]["grid"]) for name in ("before", "after"))
        pairs = result["test"]["paired"][budget]
        alone = f"{new} alone is right on {pairs['after']}, {old} alone on {pairs['before']}"
        if old == new:
            line = f"the grid stays {new}"
        elif pairs["p"] < SIGNIFICANCE:
            better = "better" if pairs["after"] > pairs["before"] else "worse"
            line = f"{new} is {better} than {old}: of {videos} test videos {alone}"
        else:
            line = f"{videos} test videos are too few to tell {new} from {old}: {alone}"
        if others := [_grid(grid) for grid in found["equal"] if grid != found["grid"]]:
            line += f". {calibration} calibration videos cannot tell {new} from {', '.join(others)}"
        lines.append(f"- {budget} tokens: {line}.")
    return "\n".join(["What the videos can tell (sign test, 5 %):", "", *lines]) + "\n"


def new_grids(result: dict) -> dict[int, tuple]:
    """The grid of every budget that a checkpoint should have: the one found where the test videos show it to be better,
    or where it is right on no fewer of them and cheaper (milliseconds if they are the objective and known of both, else
    GMACs); the old one elsewhere. Empty where all stay, so that nothing need be written."""
    grids = {
        budget: tuple(result["test"]["after" if _verdict(result, budget)[0] else "before"]["budgets"][budget]["grid"])
        for budget in result["budgets"]
    }
    return grids if any(_verdict(result, budget)[0] for budget in grids) else {}


def what_is_worth_it(result: dict) -> str:
    """In words, for each budget: the grid that `new_grids` gives, and why."""
    lines = []
    for budget in result["budgets"]:
        old, new = (_grid(result["test"][name]["budgets"][budget]["grid"]) for name in ("before", "after"))
        change, reason = _verdict(result, budget)
        what = f"{new} instead of {old}" if change else f"{old} stays"
        lines.append(f"- {budget} tokens: {what}{reason and ', '}{reason}.")
    return "\n".join(["What `--write` puts into the checkpoint:", "", *lines]) + "\n"


def _verdict(result: dict, budget: int) -> tuple[bool, str]:
    """Whether the grid found should replace the old one, and why or why not."""
    before, after = (result["test"][name]["budgets"][budget] for name in ("before", "after"))
    pairs, new = result["test"]["paired"][budget], _grid(after["grid"])
    if before["grid"] == after["grid"]:
        return False, ""
    if pairs["p"] < SIGNIFICANCE:
        return (True, "it is better") if pairs["after"] > pairs["before"] else (False, f"{new} is worse")
    costs = {tuple(entry["grid"]): entry["cost"] for entry in result["budgets"][budget]["grids"]}
    measured = [costs.get(tuple(figures["grid"])) for figures in (before, after)]
    if result["rule"]["objective"] != "latency_ms" or None in measured:
        measured = [figures["gmacs"] for figures in (before, after)]
    if measured[1] >= measured[0]:
        return False, f"{new} is not shown to be better and is no cheaper"
    if pairs["after"] < pairs["before"]:
        return False, f"{new} is cheaper, but right on fewer videos"
    return True, "it is right on no fewer videos and cheaper"


def _grid(grid: list[int]) -> str:
    return f"{grid[0]} x {grid[1]}²"
