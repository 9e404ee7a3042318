"""The tables of the benchmarks page, made of what was measured. A cell is the median, in brackets the fastest and the
slowest run."""

from pathlib import Path

import numpy as np

from flux_hf.files import read_json
from flux_hf.provenance import result_origin
from flux_hf.tables import percent, table

RESULTS = Path(__file__).parent / "results"
UNCOMPILED = ["forward", "graph", "training"]
"""Runs of the benchmark on a GPU that every row may have."""


def tables(results: Path = RESULTS) -> dict[str, str]:
    """Markdown by the name that documents call it, of every result in a folder. What stands behind the name of a
    benchmark in that of a file (model_xeon.json) says which of its runs it is."""
    found = {path.stem: read_json(path) for path in sorted(results.glob("*.json"))}
    makers = {
        "adaptive_budget": adaptive_budget_tables,
        "alternatives": alternatives_tables,
        "any_model": any_model_tables,
        "attention": attention_tables,
        "decoding": decoding_tables,
        "end_to_end": end_to_end_tables,
        "frame_choice": frame_choice_tables,
        "gpu": gpu_tables,
        "keyframes": key_frame_tables,
        "labeling": labeling_tables,
        "model": model_tables,
        "options": options_tables,
        "pretraining": pretraining_tables,
        "runtimes": runtimes_tables,
        "startup": startup_tables,
        "training": training_tables,
        "watching": watching_tables,
    }
    made = {f"benchmarks.{name}": result_origin(result) for name, result in found.items()}
    for name, result in found.items():
        benchmark = max((known for known in makers if f"{name}_".startswith(f"{known}_")), key=len)
        made |= {f"benchmarks.{name}.{part}": text for part, text in makers[benchmark](result).items()}
    return made


def best_peer(row: dict) -> float | None:
    """Seconds of the fastest reader of a row of decoding that is not ours; None without one."""
    peers = [
        entry["seconds"]
        for name, entry in row["readers"].items()
        if name not in row["libav_alone"] and "error" not in entry
    ]
    return min(peers, default=None)


def speedups(row: dict, mode: str) -> tuple[float, float] | None:
    """How many times faster than the best peer we are in `mode`, and libav alone; None where that is unknown."""
    peer, ours = best_peer(row), row["readers"][mode]
    if peer is None or "error" in ours:
        return None
    return peer / ours["seconds"], peer / row["libav_alone"][mode]["seconds"]


def decoding_tables(result: dict) -> dict[str, str]:
    rows = result["decoding"]
    names, modes = list(rows[0]["readers"]), list(rows[0]["libav_alone"])
    head = ["file", "frames", *names, *(f"libav alone, {mode}" for mode in modes)]
    head += [f"{mode} / best peer (limit)" for mode in modes]
    lines = [
        [row["file"], row["num_frames"], *(milliseconds(row["readers"][name]) for name in names)]
        + [milliseconds(row["libav_alone"][mode]) for mode in modes]
        + ["{:.1f}x ({:.1f}x)".format(*found) if (found := speedups(row, mode)) else "" for mode in modes]
        for row in rows
    ]
    failed = {name: entry["error"] for row in rows for name, entry in row["readers"].items() if "error" in entry}
    missing = "".join(f"\n\nNot measured: {name} ({why})." for name, why in (result["missing"] | failed).items())
    peaks = [
        [row["decoding"], row["num_frames"], row["short_kilobytes"] // 1024, row["long_kilobytes"] // 1024]
        + [f"{row['long_kilobytes'] / row['short_kilobytes']:.2f}"]
        for row in result.get("memory", [])
    ]
    made = {"speed": table(head, lines) + missing}
    if peaks:
        made["memory"] = table(["decoding", "frames", *result["memory_files"], "long / short"], peaks)
    return made


def alternatives_tables(result: dict) -> dict[str, str]:
    webm = [[row["file"], *(milliseconds(row["runs"][name]) for name in ("fast", "pass"))] for row in result["webm"]]
    scaled = [
        [row["file"], *(milliseconds(row["runs"][name]) for name in ("full", "scaled"))]
        + [f"{row['pixel_difference']:.2f}"]
        for row in result["scaled"]
    ]
    return {
        "webm": table(["file", "fast", "pass over packets"], webm),
        "scaled": table(["file", "full size", "scaled in the decoder", "difference"], scaled),
    }


def any_model_tables(result: dict) -> dict[str, str]:
    lines = [
        [row["model"], row["batch"], "x".join(map(str, row["grid"][:2])), case, row["tokens"][case]]
        + [milliseconds(entry), "" if case == "selection" else f"{over(row['runs'], 'stock', case):.1f}x"]
        + [f"{row['kilobytes'][case] / 1024:.0f}" if "kilobytes" in row else "", entry.get("repeats", 0)]
        for row in result["any_model"]
        for case, entry in row["runs"].items()
    ]
    head = ["model", "clips", "grid", "tokens kept", "tokens", "milliseconds", "faster than stock", "MiB", "runs"]
    return {"speed": table(head, lines, "lllr" + "r" * 5)}


def model_tables(result: dict) -> dict[str, str]:
    head = ["model", "tokens", "clips", "grid", "GMACs", "forward", "floor", "forward / floor"]
    head += ["naive / forward", "naive / floor"]
    others = sorted({name for row in result["model"] for name in row["runs"]} & {"compiled", "bf16"})
    lines, shares = [], []
    for row in result["model"]:
        runs, name = row["runs"], [row["model"], row["token_budget"], row["batch"]]
        ratios = [("forward", "floor"), ("naive", "forward"), ("naive", "floor")]
        lines.append([*name, grid_name(row["grid"]), f"{row['gmacs']:.1f}"])
        lines[-1] += [milliseconds(runs["forward"]), milliseconds(runs["floor"])]
        lines[-1] += [f"{over(runs, *ratio):.2f}" for ratio in ratios]
        lines[-1] += [milliseconds(runs[other]) if other in runs else "" for other in others]
        shares.append([*name, *(f"{100 * share:.1f}" for share in row["shares"].values())])
        shares[-1].append(f"{100 * over(runs, 'selection and positions', 'forward'):.1f}")
    parts = [*result["model"][0]["shares"], "selection and positions (timed alone)"]
    made = {
        "forward": table([*head, *others], lines),
        "shares": table([*head[:3], *parts], shares),
        "over_floor": over_floor(result["model"]),
    }
    if result.get("memory"):
        made["memory"] = table(
            ["model", "clips", "tokens", "grid", "forward", "patch embedding", "straight line through the forwards"],
            [
                [row["model"], row["batch"], row["token_budget"], grid_name(row["grid"])]
                + [f"{row[part] / 1024:.0f}" for part in ("forward_kilobytes", "patches_kilobytes")]
                + [f"{line_through(result['memory'], row['model'])(row['token_budget']) / 1024:.0f}"]
                for row in result["memory"]
            ],
        )
    if result.get("grids"):
        head = ["model", "tokens", "grid", "forward", "patch embedding", "forward without it", "over the first grid's"]
        made["grids"] = table(head, [line for row in result["grids"] for line in _lines_of_grids(row)])
    return made


def over_floor(rows: list[dict]) -> str:
    """How many times the floor a forward takes, least and most over the budgets of 1024 tokens and more."""
    found = {}
    for row in rows:
        if row["token_budget"] >= 1024:
            found.setdefault((row["model"], row["batch"]), []).append(over(row["runs"], "forward", "floor"))
    lines = [[*name, f"{min(ratios):.2f} to {max(ratios):.2f}"] for name, ratios in found.items()]
    return table(["model", "clips", "forward / floor"], lines)


def line_through(rows: list[dict], model: str) -> np.poly1d:
    """The least-squares line of a model's memory, tokens -> kilobytes."""
    points = [(row["token_budget"], row["forward_kilobytes"]) for row in rows if row["model"] == model]
    return np.poly1d(np.polyfit(*zip(*points, strict=True), 1 if len(points) > 1 else 0))


def _lines_of_grids(row: dict) -> list[list]:
    grids = [name for name in row["runs"] if f"{name} patches" in row["runs"]]
    rest = {name: row["runs"][name]["seconds"] - row["runs"][f"{name} patches"]["seconds"] for name in grids}
    return [
        [row["model"], row["token_budget"], name, milliseconds(row["runs"][name])]
        + [
            milliseconds(row["runs"][f"{name} patches"]),
            f"{1000 * rest[name]:.0f}",
            f"{rest[name] / rest[grids[0]]:.2f}",
        ]
        for name in grids
    ]


def options_tables(result: dict) -> dict[str, str]:
    batches = list(result["inference_options"][0]["speed"])
    head = ["tokens", "option", *(f"clips: {batch}" for batch in batches), "top-1 in %", "answers unlike float32"]
    lines = []
    for row in result["inference_options"]:
        for name, figures in row["accuracy"].items():
            low, high = (100 * bound for bound in figures["top1_interval"])
            lines.append([row["token_budget"], name, *(milliseconds(row["speed"][batch][name]) for batch in batches)])
            lines[-1] += [f"{100 * figures['top1']:.1f} ({low:.1f}-{high:.1f})", figures["different"]]
    return {"forward": table(head, lines)}


def runtimes_tables(result: dict) -> dict[str, str]:
    """A line for each model, budget and number of clips, a column for each way to run it. `differences`: of the logits
    from those of float32."""
    rows = result["runtimes"]
    names = list(dict.fromkeys(name for row in rows for name in row["runs"]))
    lines = [
        [row["model"], row["token_budget"], row["batch"]]
        + [fine_milliseconds(row["runs"].get(name)) for name in names]
        + [row["auto"]]
        for row in rows
    ]
    differences = []
    for row in rows:
        found = [row["runs"].get(name, {}).get("difference") for name in names]
        differences.append([row["model"], row["token_budget"], row["batch"]])
        differences[-1] += ["" if difference is None else f"{difference:.1g}" for difference in found]
    head, align = ["model", "tokens", "clips", *names], "lrr" + "r" * len(names)
    return {
        "forward": table([*head, "dtype auto took"], lines, f"{align}l"),
        "differences": table(head, differences, align),
    }


def end_to_end_tables(result: dict) -> dict[str, str]:
    rows = result["end_to_end"]
    names = list(rows[0]["models"])
    lines = [[row["file"], *(milliseconds(row["models"][name]) for name in names)] for row in rows]
    inputs = [[name, shape[1], shape[-1]] for name, shape in result["inputs"].items()]
    once = sorted({name for row in rows for name, entry in row["models"].items() if entry.get("repeats") == 0})
    note = f"\n\nMeasured once, without a run before: {', '.join(once)}." if once else ""
    return {
        "labels": table(["file", *names], lines) + note,
        "inputs": table(["model", "frames", "pixels"], inputs),
    }


def frame_choice_tables(result: dict) -> dict[str, str]:
    """`files` or `clips`, whichever was measured: a column for each choice of frames."""
    measured = result["files"] or result["data"]
    names = list(measured[0]["choices"])
    if result["files"]:
        head = ["file", "frames", *(f"decoded, {name}" for name in names), *(f"ms of CPU, {name}" for name in names)]
        lines = [
            [row["file"], row["num_frames"], *(row["choices"][name]["decoded"] for name in names)]
            + [f"{1000 * row['choices'][name]['cpu_seconds']:.0f}" for name in names]
            for row in result["files"]
        ]
        return {"files": table(head, lines, "l" + "r" * (len(head) - 1))}
    head = ["clips", "frames are", "decoded a clip", "clips with all middles", "top-1 in %, from most to fewest tokens"]
    lines = [
        [f"{Path(row['data']).name} ({row['clips']}, {row['one_key_frame']} with one key frame)", name]
        + [f"{choice['decoded']:.1f}", choice["middles"]]
        + [", ".join(percent(share) for share in choice["top1"].values()) if choice["top1"] else "other labels"]
        for row in result["data"]
        for name, choice in row["choices"].items()
    ]
    return {"clips": table(head, lines, "llrrr")}


def labeling_tables(result: dict) -> dict[str, str]:
    """`speed`: videos a second of every way, and how `label` compares."""
    names, lines = list(result["labeling"][0]["ways"]), []
    for row in result["labeling"]:
        seconds = {name: way["seconds"] for name, way in row["ways"].items()}
        slower = max(seconds["decoding alone, one core"], seconds["forwards alone, one core"])
        lines.append([f"{row['model']}, {row['token_budget']} tokens"])
        lines[-1] += [f"{result['videos'] / seconds[name]:.1f}" for name in names]
        lines[-1] += [
            row["dtype_auto"],
            f"{seconds['loop over the pipeline'] / seconds['label']:.2f}x",
            f"{seconds['label'] / slower:.2f}x",
        ]
    head = ["model", *names, "auto is", "label against the loop", "time of label over the slower of both on one core"]
    return {"speed": table(head, lines, "l" + "r" * len(names) + "lrr")}


def key_frame_tables(result: dict) -> dict[str, str]:
    """`time`: a line for each film, a column for each reader. `accuracy`: a line for each kind of film and mode."""
    made = {"time": "", "accuracy": ""}
    if result["time"]:
        names = list(result["time"][0]["readers"])
        modes = list(result["time"][0]["gain"] or {})
        head = ["film", "key frames", "frames of keyframes", *names, *(f"{mode} / best other" for mode in modes)]
        lines = [
            [row["film"], row["key_frames"], len(row["taken"]), *(milliseconds(row["readers"][name]) for name in names)]
            + [f"{row['gain'][mode]:.1f}x" for mode in modes]
            for row in result["time"]
        ]
        made["time"] = table(head, lines, "lrr" + "r" * (len(names) + len(modes)))
    if result["accuracy"]:
        budgets = list(next(iter(result["accuracy"][0]["modes"].values())))
        lines = [
            [f"{row['films']} ({row['count']})", mode, ", ".join(figures[budgets[0]]["grids_used"])]
            + [_with_interval(figures[budget]) for budget in budgets]
            for row in result["accuracy"]
            for mode, figures in row["modes"].items()
        ]
        head = ["films", "decoding", "grid", *(f"{budget} tokens" for budget in budgets)]
        made["accuracy"] = table(head, lines, "lll" + "r" * len(budgets))
    return made


def _with_interval(figures: dict) -> str:
    low, high = figures["top1_interval"]
    return f"{percent(figures['top1'])} ({percent(low)}-{percent(high)})"


def gpu_tables(result: dict) -> dict[str, str]:
    """`forward` and `training`: a line for each model, budget and number of clips. `budgets`: what a quarter of the
    tokens gives."""
    made = {}
    for mode, names in (
        ("forward", ["forward", "graph", "compiled", "compiled graph"]),
        ("training", ["training", "compiled"]),
    ):
        rows = sorted((row for row in result["rows"] if row["mode"] == mode), key=_place_of_row)
        names = [name for name in names if any(name in row["runs"] for row in rows)]
        head = ["model", "tokens", "clips", "grid", *names, "floor", *(f"{name} / floor" for name in names)]
        head += ["clips per second", "MiB"]
        lines = []
        for row in rows:
            runs = row["runs"]
            lines.append([row["model"], row["token_budget"] or "all", row["clips"], grid_name(row["grid"])])
            lines[-1] += [fine_milliseconds(runs.get(name)) for name in (*names, "floor")]
            lines[-1] += [f"{over(runs, name, 'floor'):.2f}" if _timed(runs, name, "floor") else "" for name in names]
            lines[-1] += [f"{row['clips'] / fastest:.0f}" if (fastest := _fastest(row)) else ""]
            lines[-1] += ["" if row["peak_bytes"] is None else f"{row['peak_bytes'] / 2**20:.0f}"]
        made[mode] = table(head, lines)
    lines = []
    for row in sorted(result["rows"], key=_place_of_row):
        for other in result["rows"]:
            same = all(row[name] == other[name] for name in ("mode", "model", "clips"))
            quarter = row["token_budget"] and row["token_budget"] == 4 * (other["token_budget"] or 0)
            if same and quarter and _fastest(row) and _fastest(other):
                lines.append([row["mode"], row["model"], row["clips"], row["token_budget"], other["token_budget"]])
                lines[-1].append(f"{_fastest(row) / _fastest(other):.2f}")
    made["budgets"] = table(["", "model", "clips", "tokens", "a quarter", "times the clips per second"], lines)
    return made


def _place_of_row(row: dict) -> tuple:
    return row["mode"], row["token_budget"] is None, row["model"], row["token_budget"] or 0, row["clips"]


def _timed(runs: dict, *names: str) -> bool:
    return all("seconds" in runs.get(name, {}) for name in names)


def _fastest(row: dict) -> float | None:
    """Seconds of the fastest run that is not the floor nor compiled, which only some rows have; None where all
    failed."""
    return min((row["runs"][name]["seconds"] for name in UNCOMPILED if _timed(row["runs"], name)), default=None)


def startup_tables(result: dict) -> dict[str, str]:
    made = {}
    for what, title in (("import", "import of"), ("help", "--help of")):
        lines = [[row["name"], milliseconds(row)] for row in result["startup"] if row["what"] == what]
        made[what] = table([title, "ms of CPU"], lines, "lr")
    return made


def adaptive_budget_tables(result: dict) -> dict[str, str]:
    """`times`: milliseconds of a forward for each clip, a line for each budget, a column for each batch size."""
    sizes, found = result["options"]["batch_sizes"], {}
    for row in result["times"]:
        found.setdefault(row["budget"], {})[row["batch_size"]] = f"{row['milliseconds']:.1f}"
    lines = [
        [budget, f"{result['budgets'][str(budget)]['gmacs']:.3f}", *(times[size] for size in sizes)]
        for budget, times in found.items()
    ]
    head = ["tokens", "mean GMACs", *(f"{size} clip{'s' * (size > 1)} a forward" for size in sizes)]
    return {"times": table(head, lines, "l" + "r" * (1 + len(sizes)))}


def watching_tables(result: dict) -> dict[str, str]:
    lines = [
        [row["model"], row["rate"], part["part"], part["answers"], *_delays(part["delay"]), part["late"]]
        + [", ".join(f"{budget}: {count}" for budget, count in part["budgets"].items())]
        for row in result["watching"]
        for part in row["parts"]
    ]
    head = ["model", "pictures/s", "machine", "answers", "delay", "95 %", "longest", "late", "answers at each budget"]
    dropped = [[row["model"], row["rate"], row["pictures"], row["dropped"]] for row in result["watching"]]
    memory = result["memory"]
    slope = [f"{memory['seconds'] / 3600:.1f}", memory["answers"], f"{memory['kilobytes'] / 1024:.0f}"]
    slope.append(f"{memory['kilobytes_per_hour'] / 1024:+.1f}")
    return {
        "delay": table(head, lines, "lrlrrrrrl"),
        "dropped": table(["model", "pictures/s", "decoded", "dropped"], dropped, "lrrr"),
        "memory": table(["hours of video", "answers", "MiB", "MiB an hour"], [slope], "rrrr"),
    }


def _delays(delay: dict | None) -> list[str]:
    return ["", "", ""] if delay is None else [f"{1000 * delay[name]:.0f}" for name in ("median", "p95", "most")]


def training_tables(result: dict) -> dict[str, str]:
    clips, training = result["options"]["batch_size"], result["training"]
    speed = [[name, milliseconds(entry), f"{clips / entry['seconds']:.1f}"] for name, entry in training["runs"].items()]
    floor = 3 * training["gmacs_forward_per_clip"] / training["matmul_gmacs_per_second"]
    speed.append(["floor", f"{1000 * clips * floor:.0f}", f"{1 / floor:.1f}"])
    waiting = [
        [row["workers"], *(f"{1000 * row[name]:.0f}" for name in ("data_seconds", "step_seconds"))]
        + [f"{100 * row['data_seconds'] / (row['data_seconds'] + row['step_seconds']):.1f}"]
        for row in result["loader_share"]
    ]
    memory = [[_listed(row["token_budgets"]), f"{row['kilobytes'] / 1024:.0f}"] for row in result["memory"]]
    loading = [[row["source"], row["workers"], f"{row['clips_per_second']:.0f}"] for row in result["loader"]]
    return {
        "steps": table(["step", "milliseconds", "clips per second"], speed),
        "memory": table(["tokens", "MiB"], memory),
        "loading": table(["source", "workers", "clips per second"], loading),
        "waiting": table(["workers", "waiting", "step", "share of waiting in %"], waiting),
    }


def attention_tables(result: dict) -> dict[str, str]:
    names = list(result["rows"][0]["runs"])
    lines = [
        [row["type"], row["token_budget"], *(milliseconds(row["runs"][name]) for name in names)]
        for row in result["rows"]
    ]
    return {"steps": table(["type", "tokens", *names], lines)}


def pretraining_tables(result: dict) -> dict[str, str]:
    student, teacher = (result[f"gmacs_{part}_forward_per_clip"] for part in ("student", "teacher"))
    floor = result["options"]["batch_size"] * (3 * student + teacher) / result["matmul_gmacs_per_second"]
    step = result["step_seconds"]
    lines = [
        ["a step, without waiting for clips", f"{1000 * step:.0f} ms"],
        ["its floor: the matrix products alone", f"{1000 * floor:.0f} ms"],
        ["step / floor", f"{step / floor:.1f}"],
        ["the teacher's share of a step", f"{100 * result['teacher_seconds'] / step:.0f} %"],
    ]
    return {"step": table(["Flux-UMT", "measured"], lines, "lr")}


def over(runs: dict[str, dict], one: str, other: str) -> float:
    """Seconds of one run over those of another."""
    return runs[one]["seconds"] / runs[other]["seconds"]


def milliseconds(entry: dict) -> str:
    if "error" in entry:
        return "failed"
    fastest, slowest = (1000 * value for value in entry["spread"])
    return f"{1000 * entry['seconds']:.0f} ({fastest:.0f}-{slowest:.0f})"


def fine_milliseconds(entry: dict | None) -> str:
    """The median alone, to a hundredth; nothing for what was not measured."""
    if entry is None:
        return ""
    return "failed" if "error" in entry else f"{1000 * entry['seconds']:.2f}"


def grid_name(grid: list[int]) -> str:
    return "x".join(map(str, grid))


def _listed(token_budgets: list[int]) -> str:
    return " + ".join(map(str, token_budgets))
