"""The tables and the plot of the page beside this file."""

import statistics
from collections import defaultdict
from pathlib import Path

from flux_hf.evaluation.report import pyplot
from flux_hf.files import read_json
from flux_hf.provenance import result_origin
from flux_hf.tables import percent, table

RESULTS = Path(__file__).parent / "results.json"
PLOT = Path(__file__).parent / "accuracy.png"
NAMES = {"videomae": "VideoMAE", "vjepa2": "V-JEPA 2"}
REGIMES = {"stock": "stock", "flux": "Flux"}
RULES = {"group_dynamic": "the selector", "random": "random tokens", "uniform": "an even pattern"}
COLOURS = {"stock": "#7a7d84", "flux": "#1b6ca8"}


def tables(file: Path = RESULTS) -> dict[str, str]:
    """Markdown by the name that documents call it: `any_model`, where the figures come from, `any_model.accuracy`,
    `any_model.training` and `any_model.verdict`."""
    if not file.exists():
        return dict.fromkeys(
            ("any_model", "any_model.accuracy", "any_model.training", "any_model.verdict"), "Not measured yet."
        )
    result = read_json(file)
    return {
        "any_model": result_origin(result),
        "any_model.accuracy": accuracy_table(result),
        "any_model.training": training_table(result),
        "any_model.verdict": verdict(means(result)),
    }


def means(result: dict) -> dict[tuple[str, str, str, int], tuple[float, float]]:
    """(model, regime, rule, tokens) -> top-1, mean and standard deviation over the seeds (0 with one)."""
    values = defaultdict(list)
    for training in result["trainings"]:
        for row in training["rows"]:
            values[training["model"], training["regime"], row["rule"], row["tokens"]].append(row["top1"])
    return {key: _mean(found) for key, found in values.items()}


def accuracy_table(result: dict) -> str:
    """A row for each model, training and rule, a column for each number of tokens."""
    cells = means(result)
    budgets = sorted({tokens for *_, tokens in cells}, reverse=True)
    lines = [
        [NAMES[model], REGIMES[regime], RULES[rule]]
        + [_percent(cells.get((model, regime, rule, tokens))) for tokens in budgets]
        for model, regime, rule in dict.fromkeys(key[:3] for key in sorted(cells, key=_order))
    ]
    head = ["model", "training", "tokens chosen by", f"{budgets[0]} tokens (all)", *map(str, budgets[1:])]
    return table(head, lines, "lll" + "r" * len(budgets))


def training_table(result: dict) -> str:
    """Parameters, clips and seconds of each training, and what classifiers that are no video models reach."""
    groups = defaultdict(list)
    for training in sorted(result["trainings"], key=_order_of_training):
        groups[training["model"], training["regime"]].append(training)
    lines = [
        [NAMES[model], REGIMES[regime], f"{group[0]['parameters'] / 1e6:.1f} M", len(group)]
        + [result["settings"]["steps"], group[0]["train_clips"], group[0]["test_clips"]]
        + [f"{statistics.mean(one['seconds'] for one in group):.0f}"]
        for (model, regime), group in groups.items()
    ]
    head = ["model", "training", "parameters", "seeds", "steps", "training clips", "test clips a seed", "seconds"]
    made = table(head, lines, "ll" + "r" * 6)
    beside = {"thumbnails": "logistic regression on three thumbnails", "majority": "most frequent class"}
    reached = [
        f"{text} {_percent(_mean([one['top1'][name] for one in result['baselines']]))}"
        for name, text in beside.items()
        if result["baselines"]
    ]
    return f"{made}\n\nOn the same test clips: {', '.join(reached)}." if reached else made


def verdict(cells: dict) -> str:
    """For each model whether Flux training is above stock training with the selector at a quarter of the tokens, and
    what all tokens give."""
    lines = []
    for model in dict.fromkeys(key[0] for key in sorted(cells, key=_order)):
        found = {regime: dict(_with_selector(cells, model, regime)) for regime in REGIMES}
        if not all(found.values()):
            lines.append(f"{NAMES[model]}: not measured.")
            continue
        everything = max(found["stock"])
        quarter = everything // 4
        stock, flux = found["stock"][quarter], found["flux"][quarter]
        relation = "above" if flux[0] > stock[0] else "not above"
        lines.append(
            f"{NAMES[model]}: at a quarter of the tokens Flux training has {_percent(flux)}, {relation} stock training "
            f"({_percent(stock)}). With all tokens: {_percent(found['flux'][everything])} and "
            f"{_percent(found['stock'][everything])}."
        )
    return "\n".join(f"- {line}" for line in lines)


def draw(cells: dict, path: str | Path) -> None:
    """Accuracy against tokens, a panel for each model; crosses are other rules than the selector.

    Raises:
        ImportError: matplotlib is not installed (extra `plot`).
    """
    plt = pyplot()
    models = list(dict.fromkeys(key[0] for key in sorted(cells, key=_order)))
    figure, panels = plt.subplots(
        1, len(models), figsize=(4.5 * len(models), 4), sharey=True, squeeze=False, layout="constrained"
    )
    for panel, model in zip(panels[0], models, strict=True):
        for regime, name in REGIMES.items():
            points = _with_selector(cells, model, regime)
            if not points:
                continue
            tokens, (mean, spread) = [tokens for tokens, _ in points], zip(*(value for _, value in points), strict=True)
            panel.errorbar(
                tokens,
                [100 * value for value in mean],
                [100 * value for value in spread],
                marker="o",
                ms=4,
                capsize=3,
                color=COLOURS[regime],
                label=name,
            )
            for rule, mark in (("random", "x"), ("uniform", "+")):
                others = [(key[3], 100 * value[0]) for key, value in cells.items() if key[:3] == (model, regime, rule)]
                for at, top1 in others:
                    panel.plot(at, top1, mark, color=COLOURS[regime], label=f"{name}, {RULES[rule]}")
        panel.set(title=NAMES[model], xlabel="tokens kept", xscale="log")
        panel.set_xticks(sorted({key[3] for key in cells}), labels=map(str, sorted({key[3] for key in cells})))
        panel.minorticks_off()
        panel.grid(alpha=0.3)
    panels[0][0].set_ylabel("top-1 accuracy, %")
    panels[0][0].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _with_selector(cells: dict, model: str, regime: str) -> list[tuple[int, tuple[float, float]]]:
    """(tokens, (mean, standard deviation)), fewest tokens first."""
    return sorted((key[3], value) for key, value in cells.items() if key[:3] == (model, regime, "group_dynamic"))


def _order(key: tuple[str, str, str, int]) -> tuple[int, ...]:
    model, regime, rule, tokens = key
    return list(NAMES).index(model), list(REGIMES).index(regime), list(RULES).index(rule), -tokens


def _order_of_training(training: dict) -> tuple[int, ...]:
    return list(NAMES).index(training["model"]), list(REGIMES).index(training["regime"]), training["seed"]


def _mean(values: list[float]) -> tuple[float, float]:
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def _percent(value: tuple[float, float] | None) -> str:
    return "–" if value is None else f"{percent(value[0])} ± {percent(value[1])}"
