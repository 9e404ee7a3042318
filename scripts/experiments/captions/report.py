"""The tables of docs/video_text.md on captions that compose."""

from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev

from flux_hf.files import read_json
from flux_hf.provenance import result_origin
from flux_hf.tables import percent, table

RESULTS = Path(__file__).parent / "results.json"
KINDS, GALLERY = 24, 192
SHARES = {1: "all", 2: "1/2", 4: "1/4", 8: "1/8"}


def tables(path: Path = RESULTS) -> dict[str, str]:
    """Markdown by the name that documents call it: `captions`, where the figures come from and zero-shot accuracy,
    `captions.retrieval` and `captions.opposites`."""
    found = read_json(path)
    rows = found["rows"]
    ways = [(regime, optimized) for regime in ("flux", "fixed") for optimized in (False, True)]
    seeds = {regime: sorted({row["seed"] for row in rows if row["regime"] == regime}) for regime, _ in ways}
    steps = found["settings"]["recipes"]["flux"]["max_steps"]
    minutes = {regime: mean(row["cpu_seconds"] for row in rows if row["regime"] == regime) / 60 for regime in seeds}
    origin = (
        f"{result_origin(found)}\n\n{found['settings']['clips']} training clips, {steps} steps; CPU minutes: "
        + ", ".join(f"{regime} {minutes[regime]:.1f} (seeds {', '.join(map(str, seeds[regime]))})" for regime in seeds)
        + ". All figures in %, mean ± standard deviation over the seeds.\n\n"
    )

    def of_budgets(value: Callable[[dict], float], chance: float) -> str:
        return table(
            ["regime", "grid", *(f"{name} of the tokens" for name in SHARES.values()), "chance"],
            [
                [regime, "optimised" if optimized else "fixed"]
                + [_spread([value(row) for row in rows if _key(row) == (regime, optimized, share)]) for share in SHARES]
                + [percent(chance)]
                for regime, optimized in ways
            ],
            "ll" + "r" * (len(SHARES) + 1),
        )

    pairs = list(rows[0]["opposites"])
    return {
        "captions": origin + of_budgets(lambda row: row["unseen"], 1 / KINDS),
        "captions.retrieval": of_budgets(lambda row: row["r1"], 1 / GALLERY),
        "captions.opposites": table(
            ["opposites", "regime", *(f"{name} of the tokens" for name in SHARES.values()), "chance"],
            [
                [pair.replace("_", " "), regime]
                + [
                    _spread([row["opposites"][pair] for row in rows if _key(row) == (regime, False, share)])
                    for share in SHARES
                ]
                + [percent(1 / 2)]
                for pair in pairs
                for regime in seeds
            ],
            "ll" + "r" * (len(SHARES) + 1),
        ),
    }


def _key(row: dict) -> tuple:
    return row["regime"], row["optimized"], row["share"]


def _spread(values: list[float]) -> str:
    if not values:
        return "–"
    return percent(mean(values)) + (f" ± {percent(stdev(values))}" if len(values) > 1 else "")
