"""The tables and the plot of the page beside this file, from the results beside it.

python scripts/experiments/captions/report.py     # draws the plot
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev

from flux_hf.cli import run_command
from flux_hf.evaluation.figures import wilson_interval
from flux_hf.evaluation.report import pyplot
from flux_hf.files import read_json
from flux_hf.provenance import result_origin
from flux_hf.tables import percent, table

FOLDER = Path(__file__).parent
PLOT = FOLDER / "accuracy.png"
COMMAND = "scripts/experiments/captions/report.py"
KINDS, GALLERY, UNSEEN = 32, 256, 256
"""Pairs of motion and colour; clips of the gallery; test clips of unseen pairs."""
SHARES = {1: "all", 2: "1/2", 4: "1/4", 8: "1/8"}
REGIMES = {"flux": "Flux", "fixed": "fixed grid"}
COLOURS = {"flux": "#1b6ca8", "fixed": "#7a7d84"}
FIGURES = {
    "unseen": "unseen pairs, zero-shot",
    "text_to_video": "R@1 from text to video",
    "video_to_text": "R@1 from video to text",
}
FACTS = {"motion": 8, "shape": 4, "colour": 4, "speed": 2, "all": 256}
ASKED = {"task": 1 / 8, "object": 1 / 4, "action": 1 / 2}


def tables(folder: Path = FOLDER) -> dict[str, str]:
    """Markdown by the name that documents call it: `captions`, where the figures come from; `captions.verdict`,
    `captions.accuracy`, `captions.retrieval`, `captions.facts`, `captions.opposites`, `captions.new_words` and
    `captions.manipulation`."""
    found, baselines, new_words, manipulation = (
        read_json(folder / name) for name in ("results.json", "baselines.json", "new_words.json", "manipulation.json")
    )
    rows, simple = found["rows"], baselines["rows"]
    return {
        "captions": origins(found, [baselines, new_words, manipulation]),
        "captions.verdict": verdict(rows),
        "captions.accuracy": accuracy(rows, simple),
        "captions.retrieval": retrieval(rows, simple),
        "captions.facts": facts(rows, simple),
        "captions.opposites": opposites(rows, simple),
        "captions.new_words": of_new_words(new_words["rows"]),
        "captions.manipulation": of_manipulation(manipulation["rows"]),
    }


def origins(found: dict, others: Sequence[dict]) -> str:
    """Commands, days and machines; steps, seeds and minutes; how wide an interval is; grids of Token Optimization."""
    rows = found["rows"]
    minutes = []
    for regime, name in REGIMES.items():
        seconds = {row["seed"]: row["cpu_seconds"] for row in rows if row["regime"] == regime}
        minutes.append(f"{name} {mean(seconds.values()) / 60:.1f} (seeds {', '.join(map(str, sorted(seconds)))})")
    taken = Counter(tuple(row["grid"]) for row in rows if row["optimized"])
    grids = ", ".join(f"{frames} x {side} px {count} times" for (frames, side), count in sorted(taken.items()))
    steps = found["settings"]["recipes"]["flux"]["max_steps"]
    return "\n".join(
        [
            *(f"- {result_origin(result)}" for result in (found, *others)),
            f"- {found['settings']['clips']} training clips, {steps} steps of 48 pairs; CPU minutes of a training: "
            f"{', '.join(minutes)}.",
            f"- The 95 % interval of one test is at most {_widest(UNSEEN)} points (zero-shot and R@1), for a pair of "
            f"opposites {_widest(112)}.",
            f"- Token Optimization took {grids}.",
        ]
    )


def verdict(rows: Sequence[dict]) -> str:
    """Flux training less fixed training of the same seed."""
    lines = []
    for figure, name in FIGURES.items():
        parts = []
        for optimized, grid in ((False, "on the fixed grid"), (True, "with Token Optimization")):
            gains = [_differences(rows, figure, optimized, share) for share in (1, 8)]
            parts.append(f"{grid} {_gain(gains[0])} with all tokens, {_gain(gains[1])} with 1/8")
        lines.append(f"- {name}: {'; '.join(parts)}.")
    return "\n".join(lines)


def accuracy(rows: Sequence[dict], simple: Sequence[dict]) -> str:
    """Zero-shot among all pairs of motion and colour."""
    return _by_share(rows, {"unseen": "unseen", "seen": "seen"}, "pairs", 1 / KINDS, simple)


def retrieval(rows: Sequence[dict], simple: Sequence[dict]) -> str:
    directions = {"text_to_video": "text to video", "video_to_text": "video to text"}
    return _by_share(rows, directions, "R@1 from", 1 / GALLERY, simple)


def facts(rows: Sequence[dict], simple: Sequence[dict]) -> str:
    """Each fact of clips of unseen pairs, asked alone."""
    chances = {fact: 1 / FACTS[fact] for fact in rows[0]["facts"]}
    return _of_parts(rows, simple, "facts", "fact", chances)


def opposites(rows: Sequence[dict], simple: Sequence[dict]) -> str:
    """Of two captions that differ in the motion alone, how often the right one is nearer."""
    return _of_parts(rows, simple, "opposites", "opposites", dict.fromkeys(rows[0]["opposites"], 1 / 2))


def of_new_words(rows: Sequence[dict]) -> str:
    """A frozen text encoder asked in the words of training and in others."""
    lines = [
        ["all four" if fact == "all" else fact, said]
        + [percent(next(row for row in rows if row["share"] == share)[said][fact]) for share in SHARES]
        + [percent(1 / count)]
        for fact, count in FACTS.items()
        for said in ("known", "new")
    ]
    return _table(["fact", "words"], lines)


def of_manipulation(rows: Sequence[dict]) -> str:
    lines = []
    for said in ("unseen", "seen"):
        for asked, chance in ASKED.items():
            for regime, title in {**REGIMES, "thumbnails": "three thumbnails"}.items():
                shown = {row.get("share"): row[said][asked] for row in rows if row["regime"] == regime}
                if None in shown:
                    cells = _once(shown[None])
                else:
                    cells = [percent(shown[share]) if share in shown else "–" for share in SHARES]
                lines.append([f"{said}, {rows[0][said]['clips']} clips", asked, title, *cells, percent(chance)])
    return _table(["tasks", "right is", "of"], lines)


def draw(rows: Sequence[dict], path: str | Path) -> None:
    """Every figure against the share of tokens, a panel each.

    Raises:
        ImportError: matplotlib is not installed (extra `plot`).
    """
    plt = pyplot()
    figure, panels = plt.subplots(1, len(FIGURES), figsize=(4 * len(FIGURES), 3.6), layout="constrained")
    for panel, (name, title) in zip(panels, FIGURES.items(), strict=True):
        for regime, label in REGIMES.items():
            for optimized, style in ((False, "-"), (True, "--")):
                values = [[row[name] for row in _of(rows, regime, optimized, share)] for share in SHARES]
                spreads = [100 * stdev(value) if len(value) > 1 else 0 for value in values]
                look = {"color": COLOURS[regime], "linestyle": style, "marker": "o", "ms": 4, "capsize": 3}
                grid = "optimised" if optimized else "fixed"
                means = [100 * mean(value) for value in values]
                panel.errorbar([1 / share for share in SHARES], means, spreads, label=f"{label}, tested {grid}", **look)
        chance = 100 / (KINDS if name == "unseen" else GALLERY)
        panel.axhline(chance, color="black", linewidth=0.8, linestyle=":", label="chance")
        panel.set(title=title, xlabel="tokens kept", xscale="log", ylim=(0, None))
        panel.set_xticks([1 / share for share in SHARES], labels=SHARES.values())
        panel.minorticks_off()
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("%")
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False, fontsize=8
    )
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _by_share(rows: Sequence[dict], figures: dict[str, str], title: str, chance: float, simple: Sequence[dict]) -> str:
    lines = []
    for figure, name in figures.items():
        for regime, of in REGIMES.items():
            for optimized, grid in ((False, "fixed"), (True, "optimised")):
                values = [[row[figure] for row in _of(rows, regime, optimized, share)] for share in SHARES]
                lines.append([name, of, grid, *map(_spread, values), percent(chance)])
        for row in simple:
            lines.append([name, row["sees"], "–", *_once(row[figure]), percent(chance)])
    return _table([title, "of", "tested on grid"], lines)


def _of_parts(rows: Sequence[dict], simple: Sequence[dict], figure: str, title: str, chances: dict[str, float]) -> str:
    lines = []
    for part, chance in chances.items():
        name = part.replace("_", " ")
        for regime, of in REGIMES.items():
            cells = [_spread([row[figure][part] for row in _of(rows, regime, False, share)]) for share in SHARES]
            lines.append([name, of, *cells, percent(chance)])
        lines += [[name, row["sees"], *_once(row[figure][part]), percent(chance)] for row in simple]
    return _table([title, "of"], lines)


def _table(head: list[str], lines: list[list[str]]) -> str:
    return table([*head, *SHARES.values(), "chance"], lines, "l" * len(head) + "r" * (len(SHARES) + 1))


def _of(rows: Sequence[dict], regime: str, optimized: bool, share: int) -> list[dict]:
    """A row for each seed."""
    key = regime, optimized, share
    return [row for row in rows if (row["regime"], row["optimized"], row["share"]) == key]


def _differences(rows: Sequence[dict], figure: str, optimized: bool, share: int) -> list[float]:
    flux, fixed = ({row["seed"]: row[figure] for row in _of(rows, regime, optimized, share)} for regime in REGIMES)
    return [flux[seed] - fixed[seed] for seed in sorted(flux) if seed in fixed]


def _gain(differences: Sequence[float]) -> str:
    ahead = f"above in {sum(gain > 0 for gain in differences)} of {len(differences)} seeds"
    spread = f" ± {percent(stdev(differences))}" if len(differences) > 1 else ""
    return f"{round(100 * mean(differences), 6):+.1f}{spread} points ({ahead})"


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "–"
    return percent(mean(values)) + (f" ± {percent(stdev(values))}" if len(values) > 1 else "")


def _once(value: float) -> list[str]:
    """Cells of what has no tokens to keep."""
    return [percent(value), *["–"] * (len(SHARES) - 1)]


def _widest(total: int) -> str:
    """Half of the widest Wilson interval of a share of `total`, in points."""
    low, high = wilson_interval(total // 2, total)
    return percent((high - low) / 2)


def main(argv: list[str] | None = None) -> None:
    draw(read_json(FOLDER / "results.json")["rows"], PLOT)
    print(PLOT.name)


if __name__ == "__main__":
    run_command(COMMAND, main)
