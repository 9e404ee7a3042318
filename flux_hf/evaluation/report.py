"""A result of `evaluate` for people: Markdown table and plot."""

from pathlib import Path

from flux_hf.files import whole_file
from flux_hf.modeling.token_selection_fluxvit import GROUP_DYNAMIC
from flux_hf.processing.grid_fluxvit import as_grid
from flux_hf.tables import markdown, table

TOP = 5


def markdown_table(result: dict) -> str:
    """One row per budget; accuracies in percent, that of the first five only where there are more classes, GMACs times
    views. Above it the split, where the result names it, and the rule that selected tokens, unless it is the paper's.
    Below it, of decoding="keyframes" the grids that the videos had; of zero-shot recognition what chance gives and what
    the classes were put into; of "auto" how often each budget answered.
    """
    views = result["views"]
    count = views["num_clips"] * views["num_crops"]
    rows, has_top5 = [], len(result["label_names"]) > TOP
    for budget, figures in result["budgets"].items():
        gmacs = "–" if figures["gmacs_x_views"] is None else f"{figures['gmacs_x_views']:.3f}"
        rows.append([budget, as_grid(figures["grid"]), gmacs, top1_in_percent(figures)])
        rows[-1] += [_percent(figures[name]) for name in ("top5", "mean_class") if name != "top5" or has_top5]
    head = ["tokens", "grid", f"GMACs x {count}", "top-1 (95 % interval)", *["top-5"] * has_top5, "mean class"]
    damaged = f"{len(result['damaged'])} with damaged frames, " if result.get("damaged") else ""
    rule = result.get("token_selection", GROUP_DYNAMIC)
    selection = "" if rule == GROUP_DYNAMIC else f", token_selection {markdown(rule)}"
    split = f"split {markdown(result['split'])}: " if "split" in result else ""
    zero_shot = ""
    if templates := result.get("templates"):
        names = len(result["label_names"])
        zero_shot = (
            f"\nZero-shot: {names} names in {counted(len(templates), 'template')}; chance {_percent(1 / names)}.\n"
        )
    answered = ""
    if shares := answered_shares(result["budgets"].get("auto", {})):
        answered = f"\nauto, answered at: {shares}. GMACs are the mean, answers that were not sure enough included.\n"
    followed = ""
    if result.get("decoding") == "keyframes":
        used = [
            f"{budget}: " + ", ".join(f"{grid} ({videos})" for grid, videos in figures["grids_used"].items())
            for budget, figures in result["budgets"].items()
        ]
        followed = f"\nGrids that followed the films, with the number of videos: {'; '.join(used)}.\n"
    return (
        f"{split}{counted(result['num_videos'], 'video')}, {len(result['unreadable'])} unreadable, "
        f"{damaged}{counted(views['num_clips'], 'clip')} x {counted(views['num_crops'], 'crop')}{selection}\n\n"
        f"{table(head, rows, 'rlrr' + 'r' * (1 + has_top5))}\n{followed}{answered}{zero_shot}"
    )


def plot_accuracy(result: dict, path: str | Path):
    """Top-1 with its 95 % interval against GMACs x views, as a picture of the kind the file name says.

    Raises:
        ImportError: matplotlib is not installed (extra `plot`).
    """
    plt = pyplot()
    rows = sorted(result["budgets"].items(), key=lambda row: row[1]["gmacs_x_views"])
    rows = [(budget, figures) for budget, figures in rows if figures["top1"] is not None]
    cost = [figures["gmacs_x_views"] for _, figures in rows]
    accuracy = [100 * figures["top1"] for _, figures in rows]
    bounds = [figures["top1_interval"] for _, figures in rows]
    below = [max(0, a - 100 * low) for a, (low, _) in zip(accuracy, bounds, strict=True)]
    above = [max(0, 100 * high - a) for a, (_, high) in zip(accuracy, bounds, strict=True)]
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    axes.errorbar(cost, accuracy, (below, above), marker="o", capsize=3, color="#1b6ca8")
    for x, y, (budget, figures) in zip(cost, accuracy, rows, strict=True):
        label = f"{budget}{' tokens' * (budget != 'auto')}\n{as_grid(figures['grid'])}"
        axes.annotate(label, (x, y), (6, -4), textcoords="offset points", va="top")
    axes.margins(x=0.18, y=0.15)
    axes.set(xlabel="GMACs x views", ylabel="top-1 accuracy, %")
    axes.grid(alpha=0.3)
    with whole_file(path) as partial:
        figure.savefig(partial, dpi=150)
    plt.close(figure)


def counted(number: int, thing: str) -> str:
    """1 clip, 2 clips."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def answered_shares(figures: dict) -> str:
    """How often each budget answered, of the figures of "auto": 64 tokens 83 %, 256 tokens 17 %. Empty of others."""
    answered = figures.get("answered", {})
    total = sum(answered.values())
    return ", ".join(f"{budget} tokens {100 * count / total:.0f} %" for budget, count in answered.items())


def top1_in_percent(figures: dict) -> str:
    """Top-1 of one budget with its 95 % interval: 97.5 (96.5–98.2). A dash where no video was scored."""
    if figures["top1"] is None:
        return "–"
    low, high = figures["top1_interval"]
    return f"{_percent(figures['top1'])} ({100 * low:.1f}–{100 * high:.1f})"


def pyplot():
    """matplotlib.pyplot that draws to files. Raises ImportError saying how to install it."""
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError("plots need matplotlib: pip install matplotlib") from error
    matplotlib.use("Agg", force=False)
    from matplotlib import pyplot

    return pyplot


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f}"
