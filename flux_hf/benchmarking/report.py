"""docs/performance.md from the JSON files of the benchmarks: every figure in it is one of theirs."""

from pathlib import Path

INTRODUCTION = """# Performance

Written by `flux-hf benchmark-report` from what the benchmarks measured; figures are medians, in brackets the fastest
and the slowest run. Everything in one table ran in one process, taking turns.
"""

MODES = """
`exact` takes the middle frame of each segment; `fast`, the default of the processor, takes from each segment the frame
that is cheapest to reach: the key frame nearest to the middle, else the segment's first frame. Its cost does not grow
with the length of the video as long as there is a key frame in every segment. Where there is none, all frames since the
last key frame have to be decoded, because each is made from those before: only frames that no other is made from are
left out. The loop filter is never left out: frames made from unfiltered ones would come out wrong.
"""


def performance_page(results: list[dict]) -> str:
    """The page, as Markdown.

    Args:
        results: contents of the JSON files of benchmark-decoding, -alternatives, -model, -end-to-end, -options and
            -training.

    Raises:
        ValueError: one of them is none of these.
    """
    sections = {
        "decoding": _decoding,
        "webm": _alternatives,
        "model": _model,
        "end_to_end": _end_to_end,
        "inference_options": _options,
        "training": _training,
    }
    parts = [INTRODUCTION]
    for result in results:
        kinds = [kind for kind in sections if kind in result]
        if not kinds:
            raise ValueError(f"not the result of a benchmark that is reported: it holds {', '.join(sorted(result))}")
        parts += [sections[kinds[0]](result), _provenance(result)]
    return "\n".join(parts)


def _decoding(result: dict) -> str:
    rows = result["decoding"]
    names, modes = list(rows[0]["readers"]), list(rows[0]["libav_alone"])
    head = ["file", "frames", *names, *(f"libav alone, {mode}" for mode in modes)]
    head += [f"{mode} / best peer (limit)" for mode in modes]
    table = [
        [row["file"], str(row["num_frames"]), *(_seconds(row["readers"][name]) for name in names)]
        + [_seconds(row["libav_alone"][mode]) for mode in modes]
        + [f"{_times(row.get(f'{mode}_speedup'))} ({_times(row.get(f'{mode}_limit'))})" for mode in modes]
        for row in rows
    ]
    failed = {name: entry["error"] for row in rows for name, entry in row["readers"].items() if "error" in entry}
    missing = "".join(f"\nNot measured: {name} ({why}).\n" for name, why in (result["missing"] | failed).items())
    note = (
        "Milliseconds to read frames of a video. libav alone opens the file and decodes what the frames of the mode "
        "are made from, knowing where they are and converting none. The last columns say how many times faster than "
        "the best peer a mode is, and in brackets libav alone."
    )
    return f"## Decoding\n{MODES}\n{note}\n\n{_table(head, table)}\n{missing}" + _memory_of_length(result)


def _alternatives(result: dict) -> str:
    webm = [[row["file"], *(_seconds(row["runs"][name]) for name in ("fast", "pass"))] for row in result["webm"]]
    scaled = [
        [row["file"], *(_seconds(row["runs"][name]) for name in ("full", "scaled")), f"{row['pixel_difference']:.2f}"]
        for row in result["scaled"]
    ]
    frames, size = (result["options"][name] for name in ("num_frames", "size"))
    return (
        "## What was tried in decoding and left\n\n"
        f"Milliseconds to read {frames} frames of a webm in mode `fast`; a pass over its packets comes first.\n\n"
        f"{_table(['file', 'fast', 'pass over packets'], webm)}\n\n"
        f"Milliseconds from a file to {frames} frames of {size} pixels, `fast`: converted at the size they have, or "
        "scaled by the decoder; mean absolute difference of their values, of 255.\n\n"
        f"{_table(['file', 'full size', 'scaled in the decoder', 'difference'], scaled)}\n"
    )


def _memory_of_length(result: dict) -> str:
    if "memory" not in result:
        return ""
    memory = result["memory"]
    table = [
        [row["decoding"], str(row["num_frames"])]
        + [f"{row[side] // 1024}" for side in ("short_kilobytes", "long_kilobytes")]
        + [f"{row['ratio']:.2f}"]
        for row in memory["rows"]
    ]
    head = ["decoding", "frames", memory["short"], memory["long"], "long / short"]
    return f"\nPeak memory, in MiB, of a process that reads a file with the processor.\n\n{_table(head, table)}\n"


def _model(result: dict) -> str:
    head = ["model", "tokens", "clips", "grid", "GMACs", "forward", "floor", "forward / floor"]
    head += ["naive / forward", "naive / floor"]
    others = sorted({name for row in result["model"] for name in row["runs"]} & {"compiled", "bf16"})
    table, shares = [], []
    for row in result["model"]:
        runs, name = row["runs"], [row["model"], str(row["token_budget"]), str(row["batch"])]
        grid = "x".join(map(str, row["grid"]))
        table.append([*name, grid, f"{row['gmacs']:.1f}", _seconds(runs["forward"]), _seconds(runs["floor"])])
        over_floor = [f"{runs[kind]['seconds'] / runs['floor']['seconds']:.2f}" for kind in ("forward", "naive")]
        table[-1] += [over_floor[0], f"{row['naive_over_forward']:.2f}", over_floor[1]]
        table[-1] += [_seconds(runs[other]) if other in runs else "" for other in others]
        shares.append([*name, *(f"{100 * share:.1f}" for share in row["shares"].values())])
        shares[-1].append(f"{100 * row['selection_share']:.1f}")
    batches = " and ".join(map(str, sorted({row["batch"] for row in result["model"]})))
    parts = [*result["model"][0]["shares"], "selection and positions (timed alone)"]
    return (
        f"## Model, {batches} clips\n\nMilliseconds of a forward. The floor is only its matrix products and "
        "attentions, with the same weights at the same shapes; naive is the official arithmetic without fused "
        "kernels.\n\n"
        f"{_table([*head, *others], table)}\n\nShares of the forward's time in per cent.\n\n"
        f"{_table([*head[:3], *parts], shares)}\n{_memory(result.get('memory'))}{_grids(result.get('grids'))}"
    )


def _memory(rows: list[dict] | None) -> str:
    if not rows:
        return ""
    table = [
        [row["model"], str(row["batch"]), str(budget), f"{grid[0]}x{grid[1]}", f"{forward / 1024:.0f}"]
        + [f"{patches / 1024:.0f}"]
        for row in rows
        for budget, grid, forward, patches in zip(
            row["token_budgets"], row["grids"], row["forward_kilobytes"], row["patches_kilobytes"], strict=True
        )
    ]
    lines = ", ".join(
        f"{row['model']} {line['kilobytes_per_token']:.1f} KiB a token, {100 * line['largest_deviation']:.0f} %"
        for row in rows
        if len(row["token_budgets"]) > 2
        for line in [row["line"]]
    )
    text = (
        "\nMiB that a forward takes at its highest, above model and clips, each in a process of its own, and its patch "
        f"embedding alone.\n\n{_table(['model', 'clips', 'tokens', 'grid', 'forward', 'patch embedding'], table)}\n"
    )
    if lines:
        text += f"\nThe straight line through the forwards of a model, and how far from it any of them lies: {lines}.\n"
    return text


def _grids(rows: list[dict] | None) -> str:
    if not rows:
        return ""
    table = [
        [row["model"], str(row["token_budget"]), grid, _seconds(row["runs"][grid])]
        + [_seconds(row["runs"][f"{grid} patches"]), f"{1000 * rest:.0f}", f"{row['over_first'][grid]:.2f}"]
        for row in rows
        for grid, rest in row["without_patches"].items()
    ]
    head = ["model", "tokens", "grid", "forward", "patch embedding", "forward without it", "over the first grid's"]
    return (
        "\nMilliseconds at the same budget, kept of grids with once, twice and three times the frames; one clip.\n\n"
        f"{_table(head, table)}\n"
    )


def _options(result: dict) -> str:
    batches = list(result["inference_options"][0]["speed"])
    head = ["tokens", "option", *(f"clips: {batch}" for batch in batches), "top-1 in %", "answers unlike float32"]
    table = []
    for row in result["inference_options"]:
        for name, figures in row["accuracy"].items():
            low, high = (100 * bound for bound in figures["top1_interval"])
            table.append([str(row["token_budget"]), name, *(_seconds(row["speed"][batch][name]) for batch in batches)])
            table[-1] += [f"{100 * figures['top1']:.1f} ({low:.1f}-{high:.1f})", str(figures["different"])]
    return (
        f"## Options of a forward\n\nMilliseconds of a forward of {result['options']['checkpoint']}, and its top-1 on "
        f"{result['num_videos']} labelled clips, one at a time, with the 95 % interval. bf16 is autocast; onnx and "
        "onnx int8 are the files of `flux-hf export --int8` in ONNX Runtime, int8 with weights and, at run time, "
        f"inputs of the matrix products quantised.\n\n{_table(head, table)}\n"
    )


def _end_to_end(result: dict) -> str:
    rows = result["end_to_end"]
    names = list(rows[0]["models"])
    table = [[row["file"], *(_seconds(row["models"][name]) for name in names)] for row in rows]
    text = '## From a file to its labels\n\nMilliseconds of `pipeline("video-classification")`, random weights.\n\n'
    text += f"{_table(['file', *names], table)}\n\n"
    if "inputs" in result:
        inputs = result["inputs"].items()
        shapes = "; ".join(f"{name} {shape[1]} frames x {shape[-1]} pixels" for name, shape in inputs)
        text += f"What they look at: {shapes}.\n\n"
    if once := sorted({name for row in rows for name, entry in row["models"].items() if entry.get("repeats") == 0}):
        text += f"Measured once, without a run before: {', '.join(once)}.\n\n"
    startup = ", ".join(f"{name} {_seconds(entry)}" for name, entry in result["startup"].items())
    text += f"Milliseconds to start Python and import: {startup}.\n"
    return text


def _training(result: dict) -> str:
    options, training = result["options"], result["training"]
    clips, seconds = options["batch_size"], {name: entry["seconds"] for name, entry in training["runs"].items()}
    budgets = _listed(training["token_budgets"])
    speed = [[name, _seconds(training["runs"][name]), f"{clips / each:.1f}"] for name, each in seconds.items()]
    speed.append(["floor", f"{1000 * clips / training['floor_clips_per_second']:.0f}"])
    speed[-1].append(f"{training['floor_clips_per_second']:.1f}")
    memory = [[_listed(row["token_budgets"]), f"{row['kilobytes'] / 1024:.0f}"] for row in result["memory"]]
    loading = [[row["source"], str(row["workers"]), f"{row['clips_per_second']:.0f}"] for row in result["loader"]]
    waiting = [
        [str(row["workers"]), *(f"{1000 * row[name]:.0f}" for name in ("data_seconds", "step_seconds"))]
        + [f"{100 * row['share']:.1f}"]
        for row in result["loader_share"]
    ]
    return (
        f"## Training\n\n`{Path(options['model_config']).name}`, {clips} clips of {options['num_frames']} frames x "
        f"{options['size']} pixels, {'bf16' if options['bf16'] else 'float32'}. Flux-Multi is one step at {budgets} "
        "tokens; separate is a forward and a backward at each of them by itself, without alignment, and one optimizer "
        "step; the floor is three times the multiply-accumulates of the forward, over the rate of matrix products.\n\n"
        f"{_table(['step', 'milliseconds', 'clips per second'], speed)}\n\nMiB that forward and backward take at their "
        "highest, above model and clips, each in a process of its own.\n\n"
        f"{_table(['tokens', 'MiB'], memory)}\n\nClips per second that loading alone gives.\n\n"
        f"{_table(['source', 'workers', 'clips per second'], loading)}\n\nMilliseconds that a step waits for its "
        "decoded clips and takes itself, means; workers share the cores with training.\n\n"
        f"{_table(['workers', 'waiting', 'step', 'share of waiting in %'], waiting)}\n"
    )


def _listed(token_budgets: list[int]) -> str:
    return " + ".join(map(str, token_budgets))


def _provenance(result: dict) -> str:
    machine = ", ".join(f"{name} {value}" for name, value in result["machine"].items())
    versions = ", ".join(f"{name} {value}" for name, value in result["versions"].items())
    return f"`{result['command']}`, {result['date']}; {machine}; {versions}.\n"


def _seconds(entry: dict) -> str:
    if "error" in entry:
        return "failed"
    slowest = [f"{1000 * value:.0f}" for value in entry["spread"]]
    return f"{1000 * entry['seconds']:.0f} ({slowest[0]}-{slowest[1]})"


def _times(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}x"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
