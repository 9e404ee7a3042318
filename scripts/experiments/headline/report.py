"""The tables, the plot and the verdict of the headline experiment."""

import statistics
from collections import defaultdict
from pathlib import Path

from flux_hf.evaluation.report import pyplot
from flux_hf.files import read_json
from flux_hf.provenance import result_origin
from flux_hf.tables import percent, table

NAMES = {
    "plain": "plain ViT",
    "flux_fixed": "FluxViT, fixed grid",
    "flux_single": "FluxViT, Flux-Single",
    "flux_multi": "FluxViT, Flux-Multi",
    "plain_few": "plain ViT, 1/4 of the tokens",
    "flux_few": "FluxViT, fixed grid, 1/4 of its tokens",
}
SAVINGS = {
    "selector": "the selector",
    "dynamic": "without groups of frames",
    "random": "random tokens",
    "tube": "random tubes",
    "frames": "fewer frames",
    "pixels": "fewer pixels",
}
RESULTS = Path(__file__).parent / "results.json"
COLOURS = {
    "plain": "#7a7d84",
    "flux_fixed": "#e4a32e",
    "flux_single": "#4a9d6e",
    "flux_multi": "#1b6ca8",
    "plain_few": "#3b3d42",
    "flux_few": "#b0417a",
}


def over_seeds(rows: list[dict]) -> list[dict]:
    """One row for each method, same, saving and budget: `top1` mean, `spread` (standard deviation over the seeds, 0
    with one), `lowest`, `highest`, mean `gmacs` and, where it was timed, `ms`, `seeds`, and the `grids` that occur."""
    groups = defaultdict(list)
    for row in rows:
        groups[row["method"], row["same"], row["saving"], row["budget"]].append(row)
    return [
        {
            "method": method,
            "same": same,
            "saving": saving,
            "budget": budget,
            "seeds": len(group),
            "top1": statistics.mean(row["top1"] for row in group),
            "spread": statistics.stdev(row["top1"] for row in group) if len(group) > 1 else 0.0,
            "lowest": min(row["top1"] for row in group),
            "highest": max(row["top1"] for row in group),
            "gmacs": statistics.mean(row["gmacs"] for row in group),
            **({"ms": statistics.mean(row["ms"] for row in group)} if "ms" in group[0] else {}),
            "grids": sorted({tuple(row["grid"]) for row in group}),
        }
        for (method, same, saving, budget), group in groups.items()
    ]


def verdict(means: list[dict], budgets: list[int], sames: tuple[str, ...] = ("clips", "compute")) -> str:
    """Whether Flux-Multi with Token Optimization at a quarter of the tokens reaches the plain model at all of them, and
    at which share of its GMACs, for each of `sames`. Says so when a run for it is missing."""
    known = {(row["method"], row["same"], row["saving"], row["budget"]): row for row in means}
    lines = []
    for same in sames:
        trained = known.keys() & {("plain", name, "selector", budgets[0]) for name in sames}
        full = known[min(trained, key=lambda key: key[1] != same)] if trained else None
        quarter = known.get(("flux_multi", same, "token_optimization", budgets[2]))
        if full is None or quarter is None:
            lines.append(f"Same {same}: not measured.")
            continue
        share = quarter["gmacs"] / full["gmacs"]
        reached = "at or above" if quarter["top1"] >= full["top1"] else "below"
        within = "within" if share <= 0.12 else "above"
        lines.append(
            f"Same {same}: Flux-Multi with Token Optimization at 1/4 of the tokens has {percent_and_spread(quarter)}, "
            f"{reached} the plain ViT at all tokens ({percent_and_spread(full)}), at {100 * share:.0f} % of its GMACs, "
            f"{within} the 12 % aimed at."
        )
    return "\n".join(lines)


def table_of_budgets(means: list[dict], budgets: list[int]) -> str:
    """A row for each method and way of saving tokens, a column for each budget."""
    rows = defaultdict(dict)
    for row in means:
        rows[row["method"], row["same"], row["saving"]][row["budget"]] = row
    lines = []
    for (method, same, saving), cells in rows.items():
        texts = [" · ".join([percent_and_spread(cells[b]), *_costs(cells[b])]) if b in cells else "–" for b in budgets]
        lines.append([NAMES[method], same, saving.replace("_", " "), *texts])
    head = ["model", "same", "tokens saved by", *(f"{budget} tokens" for budget in budgets)]
    note = "Top-1 in %, mean and standard deviation over seeds; GMACs and ms of one clip."
    return f"{table(head, lines, 'lll' + 'r' * len(budgets))}\n\n{note}\n"


def tables(file: Path = RESULTS) -> dict[str, str]:
    """Markdown by the name that documents call it."""
    result = read_json(file)
    means, budgets = over_seeds(result["rows"]), result["budgets"]
    cells = {(row["method"], row["same"], row["saving"], row["budget"]): row for row in means}
    first = f"{budgets[0]} tokens (all)"

    def lines(*named: tuple[str, str, str, str]) -> list[list[str]]:
        return [
            [name, *(percent_and_spread(cells[method, same, saving, budget]) for budget in budgets)]
            for name, method, same, saving in named
        ]

    head, align = [first, *map(str, budgets[1:])], "l" + "r" * len(budgets)
    costs = ["GMACs", *(f"{cells['flux_multi', 'clips', 'selector', budget]['gmacs']:.3f}" for budget in budgets)]
    trained = lines(
        ("plain ViT", "plain", "clips", "selector"),
        ("FluxViT, fixed grid", "flux_fixed", "clips", "selector"),
        ("FluxViT, Flux-Single (144)", "flux_single", "clips", "selector"),
        ("FluxViT, Flux-Multi", "flux_multi", "clips", "selector"),
        ("FluxViT, Flux-Multi, Token Optimization", "flux_multi", "clips", "token_optimization"),
        ("FluxViT, Flux-Multi, same compute", "flux_multi", "compute", "selector"),
    )
    made = {
        "headline": result_origin(result),
        "headline.trained": table(["trained as", *head], [*trained, costs], align),
        "headline.verdict": verdict(means, budgets),
    }
    for method in ("flux_multi", "flux_fixed"):
        made[f"headline.saved.{method}"] = table(
            ["tokens saved by", *head],
            lines(*((name, method, "clips", saving) for saving, name in SAVINGS.items())),
            align,
        )
    return made


def plot(means: list[dict], path: str | Path):
    """Accuracy against GMACs of the models, full lines with Token Optimization, dashed on the fixed grid.

    Raises:
        ImportError: matplotlib is not installed (extra `plot`).
    """
    plt = pyplot()
    figure, axes = plt.subplots(figsize=(9.5, 4.5), layout="constrained")
    draw_methods(axes, means, "clips" if any(row["same"] == "clips" for row in means) else means[0]["same"])
    finish(axes)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def draw_methods(axes, means: list[dict], same: str) -> None:
    """The lines of the models that trained with the same of `same`."""
    for saving, style in (("token_optimization", "-"), ("selector", "--")):
        for method, name in NAMES.items():
            rows = [r for r in means if (r["method"], r["same"], r["saving"]) == (method, same, saving)]
            rows.sort(key=lambda row: row["gmacs"])
            if rows:
                axes.errorbar(
                    [row["gmacs"] for row in rows],
                    [100 * row["top1"] for row in rows],
                    [100 * row["spread"] for row in rows],
                    ls=style,
                    marker="o",
                    ms=4,
                    capsize=3,
                    color=COLOURS[method],
                    label=name + (", Token Optimization" if saving == "token_optimization" else ""),
                )


def finish(axes) -> None:
    """Scale, titles and legend of a picture of accuracy against GMACs."""
    axes.set_xscale("log")
    for axis_format in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        axis_format("{x:.2g}")
    axes.tick_params(axis="x", which="both", labelsize=8, rotation=45)
    axes.set(xlabel="GMACs of a clip", ylabel="top-1 accuracy, %")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8, handlelength=3.5, loc="upper left", bbox_to_anchor=(1, 1))


def _costs(row: dict) -> list[str]:
    return [f"{row['gmacs']:.3f} GMACs", *([f"{row['ms']:.0f} ms"] if "ms" in row else [])]


def percent_and_spread(row: dict) -> str:
    """`top1` of a row of `over_seeds` in %, with its `spread` where there are several seeds."""
    return percent(row["top1"]) + (f" ± {percent(row['spread'])}" if row["seeds"] > 1 else "")
