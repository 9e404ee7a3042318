"""The tables and the plot of the page beside this file."""

import statistics
from collections import defaultdict
from pathlib import Path

from flux_hf.evaluation.report import pyplot
from flux_hf.files import read_json
from flux_hf.provenance import result_origin
from flux_hf.scripts.experiments.any_model.models import SHARES
from flux_hf.tables import percent, table

RESULTS = Path(__file__).parent / "results.json"
PLOT = Path(__file__).parent / "accuracy.png"
NAMES = {"videomae": "VideoMAE", "vjepa2": "V-JEPA 2"}
REGIMES = {"stock": "stock", "flux": "Flux"}
RULES = {"group_dynamic": "the selector", "random": "random tokens", "uniform": "an even pattern"}
MARKS = {
    "group_dynamic": {"marker": "o", "ms": 4},
    "random": {"fmt": "x"},
    "uniform": {"fmt": "s", "ms": 4, "mfc": "white"},
}
COLOURS = {"stock": "#7a7d84", "flux": "#1b6ca8"}


def tables(file: Path = RESULTS) -> dict[str, str]:
    """Markdown by the name that documents call it: `any_model`, where the figures come from, `any_model.accuracy`,
    `any_model.training` and `any_model.verdict`."""
    names = ("any_model", "any_model.accuracy", "any_model.training", "any_model.verdict")
    if not file.exists():
        return dict.fromkeys(names, "Not measured yet.")
    result = read_json(file)
    made = (origins, accuracy_table, training_table, verdict)
    return {name: write(result) for name, write in zip(names, made, strict=True)}


def origins(result: dict) -> str:
    """A line for each model: the command of its first training, day, machine and versions."""
    first = {}
    for training in sorted(result["trainings"], key=_order_of_training):
        first.setdefault(training["model"], training)
    return "\n".join(f"- {NAMES[model]}: {result_origin(training)}" for model, training in first.items())


def by_seed(result: dict) -> dict[tuple[str, str, str, int], dict[int, float]]:
    """(model, regime, rule, share) -> top-1 by seed. Of all tokens, 1 / share is kept."""
    values = defaultdict(dict)
    for training in result["trainings"]:
        for row in training["rows"]:
            key = training["model"], training["regime"], row["rule"], all_tokens(training) // row["tokens"]
            values[key][training["seed"]] = row["top1"]
    return {key: values[key] for key in sorted(values, key=_order)}


def all_tokens(training: dict) -> int:
    """Of the grid of a training's tests."""
    return max(row["tokens"] for row in training["rows"])


def accuracy_table(result: dict) -> str:
    """A row for each model, training and rule, a column for each share of the tokens; mean and deviation over seeds."""
    cells = {key: _mean(list(found.values())) for key, found in by_seed(result).items()}
    tokens = {training["model"]: all_tokens(training) for training in result["trainings"]}
    lines = [
        [f"{NAMES[model]}, {tokens[model]} tokens", REGIMES[regime], RULES[rule]]
        + [_percent(cells.get((model, regime, rule, share))) for share in SHARES]
        for model, regime, rule in dict.fromkeys(key[:3] for key in cells)
    ]
    head = ["model", "training", "tokens chosen by", *map(_share, SHARES)]
    return table(head, lines, "lll" + "r" * len(SHARES))


def training_table(result: dict) -> str:
    """Size, grid, steps, clips and seconds of each training, and what classifiers that are no video models reach."""
    groups = defaultdict(list)
    for training in sorted(result["trainings"], key=_order_of_training):
        groups[training["model"], training["regime"]].append(training)
    lines = []
    for (model, regime), group in groups.items():
        setting, (frames, size) = group[0]["setting"], group[0]["setting"]["grid"]
        lines.append(
            [NAMES[model], REGIMES[regime], f"{group[0]['parameters'] / 1e6:.1f} M", f"{frames} x {size} px"]
            + [setting["steps"], f"{setting['learning_rate']:g}", len(group)]
            + [group[0]["train_clips"], group[0]["test_clips"]]
            + [f"{statistics.mean(one['seconds'] for one in group):.0f}"]
        )
    head = ["model", "training", "parameters", "tested on", "steps", "learning rate", "seeds", "training clips"]
    made = table([*head, "test clips a seed", "seconds"], lines, "ll" + "r" * 8)
    beside = {"thumbnails": "logistic regression on three thumbnails", "majority": "most frequent class"}
    reached = [
        f"{text} {_percent(_mean([one['top1'][name] for one in result['baselines']]))}"
        for name, text in beside.items()
        if result["baselines"]
    ]
    return f"{made}\n\nOn the same test clips: {', '.join(reached)}." if reached else made


def verdict(result: dict) -> str:
    """For each model by how much Flux training is above stock training with the selector, at a quarter of the tokens
    and at all; seeds that have both count, since both are tested on the same clips."""
    cells, lines = by_seed(result), []
    for model in dict.fromkeys(key[0] for key in cells):
        parts = []
        for share in (4, 1):
            stock, flux = (cells.get((model, regime, "group_dynamic", share), {}) for regime in REGIMES)
            gains = [flux[seed] - stock[seed] for seed in stock if seed in flux]
            if gains:
                ahead = f"above in {sum(gain > 0 for gain in gains)} of {len(gains)} seeds"
                parts.append(f"{_gain(_mean(gains))} points with {_share(share)} of the tokens ({ahead})")
        lines.append(f"- {NAMES[model]}: Flux training against stock training {', '.join(parts) or 'not measured'}.")
    return "\n".join(lines)


def draw(result: dict, path: str | Path) -> None:
    """Accuracy against the share of tokens, a panel for each model, and that of other rules than the selector.

    Raises:
        ImportError: matplotlib is not installed (extra `plot`).
    """
    plt = pyplot()
    cells = {key: _mean(list(found.values())) for key, found in by_seed(result).items()}
    models = list(dict.fromkeys(key[0] for key in cells))
    figure, panels = plt.subplots(
        1, len(models), figsize=(4.5 * len(models), 4), sharey=True, squeeze=False, layout="constrained"
    )
    for panel, model in zip(panels[0], models, strict=True):
        for (_, regime, rule), points in _lines(cells, model).items():
            shares, values = [1 / share for share, _ in points], [value for _, value in points]
            means, spreads = ([100 * number for number in numbers] for numbers in zip(*values, strict=True))
            look = {"color": COLOURS[regime], "label": f"{REGIMES[regime]}, {RULES[rule]}"} | MARKS[rule]
            panel.errorbar(shares, means, spreads, capsize=3, **look)
        panel.set(title=NAMES[model], xlabel="tokens kept", xscale="log")
        panel.set_xticks([1 / share for share in SHARES], labels=map(_share, SHARES))
        panel.minorticks_off()
        panel.grid(alpha=0.3)
    panels[0][0].set_ylabel("top-1 accuracy, %")
    panels[0][0].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _lines(cells: dict, model: str) -> dict[tuple[str, str, str], list[tuple[int, tuple[float, float]]]]:
    """(model, regime, rule) -> (share, (mean, standard deviation)) of each."""
    lines = defaultdict(list)
    for key, value in cells.items():
        if key[0] == model:
            lines[key[:3]].append((key[3], value))
    return lines


def _order(key: tuple[str, str, str, int]) -> tuple[int, ...]:
    model, regime, rule, share = key
    return list(NAMES).index(model), list(REGIMES).index(regime), list(RULES).index(rule), share


def _order_of_training(training: dict) -> tuple[int, ...]:
    return list(NAMES).index(training["model"]), list(REGIMES).index(training["regime"]), training["seed"]


def _mean(values: list[float]) -> tuple[float, float]:
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def _share(share: int) -> str:
    return "all" if share == 1 else f"1/{share}"


def _percent(value: tuple[float, float] | None) -> str:
    return "–" if value is None else f"{percent(value[0])} ± {percent(value[1])}"


def _gain(value: tuple[float, float]) -> str:
    return f"{100 * value[0]:+.1f} ± {100 * value[1]:.1f}"
