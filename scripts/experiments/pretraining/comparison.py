"""Does pre-training help? The same classifier from scratch and from a distilled student, with few and many labels."""

import statistics
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
from transformers import set_seed

from flux_hf.data import CachedClips
from flux_hf.files import claim_folder, read_json, write_json
from flux_hf.pretraining.arguments import FluxPreTrainingArguments
from flux_hf.pretraining.pretraining import PretrainOptions, pretrain
from flux_hf.processing.video_processing_fluxvit import FluxVideoProcessor
from flux_hf.provenance import result_origin
from flux_hf.tables import percent
from flux_hf.tables import table as markdown
from flux_hf.training.arguments import FluxTrainingArguments
from flux_hf.training.checkpoint_folders import last_checkpoint
from flux_hf.training.finetuning import FinetuneOptions
from flux_hf.training.starting_model import ModelChanges, starting_model
from flux_hf.training.trainer import FluxTrainer

SCRATCH, AS_LONG, MULTI = "scratch", "scratch-as-long", "Flux-Multi"
FROM_SCRATCH = (SCRATCH, AS_LONG)
STARTS = (*FROM_SCRATCH, MULTI, "Flux-Single")
"""AS_LONG is SCRATCH with more steps: it takes as long as MULTI with its pre-training."""
MODES = ("finetune", "probe")
NOT_RUN = "Not run yet."
LABELS = ("share", "clips_per_class")
"""How it is said how many clips have labels."""
SETTINGS, TIME = "student.json", "time.json"
RESULTS = Path(__file__).parent / "results"
TEACHERS = {
    "manipulation_default": ("the default checkpoint", "none"),
    "manipulation_all": ("FluxViT (1.2 M), trained on these 28 tasks", "100 a class"),
}
"""File of the results -> who taught, and how many labelled manipulation clips had taught it."""


def pretrained_student(
    start: str,
    seed: int,
    options: PretrainOptions,
    args: FluxPreTrainingArguments,
    folder: Path,
    settings: dict,
) -> Path | None:
    """Folder of the student of one of STARTS, trained now unless it is there; an interrupted training goes on. None for
    starts from scratch. Flux-Single trains the middle one of `args.token_budgets` alone.

    Args:
        args: of the Flux-Multi student; changed here.
        folder: of all students.
        settings: what `options` and `args` were made of, for JSON. With start and seed it is written to SETTINGS beside
            the student before its training. After it TIME has its `seconds` and whether it was `resumed`.

    Raises:
        ValueError: the student there was trained with other settings, or has none beside it.
    """
    if start in FROM_SCRATCH:
        return None
    home = folder / f"{start}_{seed}"
    claim_folder(home, {"start": start, "seed": seed} | settings, SETTINGS)
    if (home / "trainer_state.json").exists():
        return home
    args.seed, args.output_dir = seed, str(home)
    args.resume_from_checkpoint, _ = last_checkpoint(home)
    options.overwrite = args.resume_from_checkpoint is None  # the folder is ours, and what it holds is unfinished
    if start == "Flux-Single":
        budgets = sorted(args.token_budgets, reverse=True)
        args.token_budgets = [budgets[len(budgets) // 2]]
    seconds = pretrain(options, args)["train_runtime"]
    write_json(home / TIME, {"seconds": seconds, "resumed": args.resume_from_checkpoint is not None})
    return home


def steps_as_long(run: dict, folder: Path) -> int:
    """Steps from scratch in the time that pre-training and fine-tuning of a student took.

    Args:
        run: the fine-tuning of MULTI, as `train_and_test` describes it, with its `seed`.
        folder: of all students.

    Raises:
        ValueError: the student's training was interrupted, so that its time is not known.
    """
    home = folder / f"{MULTI}_{run['seed']}"
    time = read_json(home / TIME)
    if time["resumed"]:
        raise ValueError(f"{home} was trained in several parts, whose time is not known; {AS_LONG} needs it in one")
    return round(run["steps"] * (1 + time["seconds"] / run["train_seconds"]))


def labels_of(run: dict) -> tuple[str, float]:
    """One of LABELS and its number."""
    return next((kind, run[kind]) for kind in LABELS if kind in run)


def labelled_part(clips: CachedClips, labels: tuple[str, float], seed: int) -> CachedClips:
    """The clips whose labels are given: of every class the same share, rounded up, or the same number. Smaller parts
    are contained in larger ones of the same seed.

    Raises:
        ValueError: a class has fewer clips than that number; names it.
    """
    kind, amount = labels
    generator = np.random.default_rng(seed)
    chosen = []
    for label, name in enumerate(clips.label_names):
        members = generator.permutation(np.flatnonzero(clips.labels == label))
        count = int(np.ceil(amount * len(members))) if kind == "share" else int(amount)
        if count > len(members):
            raise ValueError(f"clips_per_class is {count}, but {name} has {len(members)} clips")
        chosen += members[:count].tolist()
    rows = np.sort(chosen)
    pixels = clips.clips if labels == ("share", 1) else clips.clips[rows]
    return replace(clips, clips=pixels, labels=clips.labels[rows], video_names=[clips.video_names[row] for row in rows])


def train_and_test(
    mode: str,
    labels: tuple[str, float],
    checkpoint: Path | None,
    options: FinetuneOptions,
    train: CachedClips,
    test: CachedClips,
    args: FluxTrainingArguments,
) -> dict:
    """Train a classifier on part of the labels and test it at each of `args.token_budgets`.

    Args:
        mode: "finetune", or "probe", which trains pooling heads and classifiers alone.
        labels: one of LABELS and its number.
        checkpoint: of the student, None for random weights of `options.model_config`.
        options: model, its changes and the grid of the test are taken from it.
        args: changed here; its batch shrinks to the clips there are.

    Returns:
        `clips`, their number; `steps`; `train_seconds`; `top1`: number of tokens -> top-1.
    """
    part = labelled_part(train, labels, args.seed)
    args.freeze = "backbone" if mode == "probe" else "nothing"
    args.per_device_train_batch_size = min(args.per_device_train_batch_size, len(part))
    set_seed(args.seed)
    model = starting_model(
        train.label_names,
        checkpoint=None if checkpoint is None else str(checkpoint),
        config_file=options.model_config,
        changes=ModelChanges(options.drop_path_rate, options.head_token_budgets),
    )
    grids = dict.fromkeys(args.token_budgets, (options.num_frames, options.size))
    processor = FluxVideoProcessor(
        patch_size=model.config.patch_size, tubelet_size=model.config.tubelet_size, grids=grids
    )
    trainer = FluxTrainer(model=model, args=args, train_dataset=part, processing_class=processor)
    seconds = trainer.train().metrics["train_runtime"]
    found = trainer.evaluate(test)
    top1 = {str(budget): found[f"eval_top1_{budget}"] for budget in args.token_budgets}
    return {"clips": len(part), "steps": trainer.state.global_step, "train_seconds": seconds, "top1": top1}


def summary(runs: list[dict]) -> list[dict]:
    """A row for every mode, labels, number of tokens and start: mean and sample standard deviation of top-1 over the
    seeds and, for pre-trained starts, the same of the gain over AS_LONG, where there are no such runs over SCRATCH, of
    the same seed."""
    by_setting = defaultdict(dict)
    for run in runs:
        for tokens, top1 in run["top1"].items():
            by_setting[run["mode"], labels_of(run), int(tokens), run["start"]][run["seed"]] = top1
    rows = []
    for (mode, labels, tokens, start), by_seed in by_setting.items():
        row = {"mode": mode, "labels": labels, "tokens": tokens, "start": start, "top1": _spread(by_seed.values())}
        scratch = by_setting.get((mode, labels, tokens, AS_LONG)) or by_setting.get((mode, labels, tokens, SCRATCH), {})
        gains = [top1 - scratch[seed] for seed, top1 in by_seed.items() if seed in scratch]
        if start not in FROM_SCRATCH and gains:
            row["gain"] = _spread(gains)
        rows.append(row)
    order = {start: place for place, start in enumerate(STARTS)}
    return sorted(rows, key=lambda row: (row["mode"], row["labels"], -row["tokens"], order[row["start"]]))


def _spread(values) -> dict[str, float]:
    values = list(values)
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return {"mean": statistics.mean(values), "std": deviation, "seeds": len(values)}


def table(rows: list[dict]) -> str:
    """The summary as a Markdown table: a line for each mode, labels and number of tokens."""
    starts = [start for start in STARTS if any(row["start"] == start for row in rows)]
    lines = []
    for setting in dict.fromkeys((row["mode"], row["labels"], row["tokens"]) for row in rows):
        mode, labels, tokens = setting
        lines.append([mode, _labels_text(labels), tokens, *_cells(rows, setting, starts)])
    return markdown(["mode", "labels", "tokens", *starts], lines)


def _labels_text(labels: tuple[str, float]) -> str:
    kind, amount = labels
    return f"{100 * amount:g} %" if kind == "share" else f"{amount:g} a class"


def _cells(rows: list[dict], setting: tuple, starts: list[str]) -> list[str]:
    found = {row["start"]: row for row in rows if (row["mode"], row["labels"], row["tokens"]) == setting}
    return [_cell(found.get(start)) for start in starts]


def tables(folder: Path = RESULTS) -> dict[str, str]:
    """Markdown of the results in a folder, by the name that documents call it."""
    flux, foreign, longer = (
        read_json(folder / f"{name}.json") for name in ("flux_teacher", "foreign_teacher", "longer_scratch")
    )
    rows = summary(flux["runs"])
    scratch = [run for run in flux["runs"] if run["start"] == SCRATCH]
    scratch_seconds = [run["train_seconds"] for run in longer["runs"]]
    times = [
        ["300 steps of distillation, then 400 of fine-tuning", f"{_mean_step(flux, 300) + _mean_training(flux):.0f} s"],
        [
            "1500 steps of fine-tuning from scratch",
            f"{statistics.mean(scratch_seconds):.0f} s",
        ],
    ]
    steps = [
        [start, *(f"{found[name]:.2f}" for name in ("step_seconds", "teacher_seconds", "data_seconds", "loss"))]
        for result, start in ((flux, "Flux-Multi"), (flux, "Flux-Single"), (foreign, "Flux-Multi"))
        for found in [_student_means(result, start)]
    ]
    steps[2][0] += ", foreign teacher"
    return {
        "pretraining": result_origin(flux),
        "pretraining.flux_teacher": table(rows),
        "pretraining.foreign_teacher": table(summary([*scratch, *foreign["runs"]])),
        "pretraining.longer_scratch": table(summary(longer["runs"])),
        "pretraining.seconds": markdown(["training on one core", "mean"], times, "lr"),
        "pretraining.steps": markdown(
            ["student", "s a step", "of them the teacher", "waiting for clips", "last loss"], steps, "lrrrr"
        ),
    } | manipulation_tables(folder)


def manipulation_tables(folder: Path) -> dict[str, str]:
    """The tables of those of TEACHERS whose results are there."""
    found = {name: read_json(folder / f"{name}.json") for name in TEACHERS if (folder / f"{name}.json").exists()}
    starts, accuracy, times, origins = [SCRATCH, AS_LONG, MULTI], [], [], []
    for name, result in found.items():
        rows = summary(result["runs"])
        for setting in dict.fromkeys((row["mode"], row["labels"], row["tokens"]) for row in rows):
            _, labels, tokens = setting
            accuracy.append([*TEACHERS[name], _labels_text(labels), tokens, *_cells(rows, setting, starts)])
        times.append([TEACHERS[name][0], *_mean_times(result)])
        origins.append(result_origin(result))
    head = ["teacher", "labels of the teacher", "labels of the student", "tokens"]
    clocks = ["pre-training", "steps after it", "all in all", "steps of scratch-as-long", "all in all"]
    return {
        "pretraining.manipulation": markdown([*head, *starts], accuracy, "lllrlll") if found else NOT_RUN,
        "pretraining.manipulation_times": markdown(["teacher", *clocks], times, "lrrrrr") if found else NOT_RUN,
        "pretraining.manipulation_origin": "\n\n".join(origins) or NOT_RUN,
    }


def _mean_times(result: dict) -> list[str]:
    """Means over seeds and labels: seconds of pre-training, steps of the fine-tuning after it, seconds of both; steps
    and seconds of AS_LONG."""
    students = [student["seconds"] for name, student in result["students"].items() if name.startswith(MULTI)]
    by_start = {start: [run for run in result["runs"] if run["start"] == start] for start in (MULTI, AS_LONG)}
    steps, seconds = (
        {start: statistics.mean(run[value] for run in runs) for start, runs in by_start.items()}
        for value in ("steps", "train_seconds")
    )
    before = statistics.mean(students)
    both = before + seconds[MULTI]
    return [
        *(f"{before:.0f} s", f"{steps[MULTI]:.0f}", f"{both:.0f} s"),
        *(f"{steps[AS_LONG]:.0f}", f"{seconds[AS_LONG]:.0f} s"),
    ]


def _student_means(result: dict, start: str) -> dict[str, float]:
    students = [found for name, found in result["students"].items() if name.startswith(start)]
    return {name: statistics.mean(student[name] for student in students) for name in students[0]}


def _mean_step(result: dict, steps: int) -> float:
    return steps * _student_means(result, "Flux-Multi")["step_seconds"]


def _mean_training(result: dict) -> float:
    chosen = [run for run in result["runs"] if (run["mode"], run["start"]) == ("finetune", "Flux-Multi")]
    return statistics.mean(run["train_seconds"] for run in chosen)


def _cell(row: dict | None) -> str:
    if row is None:
        return "-"
    text = percent(row["top1"]["mean"])
    if row["top1"]["seeds"] > 1:
        text += f" ± {percent(row['top1']['std'])}"
    return text + f" ({100 * row['gain']['mean']:+.1f})" if "gain" in row else text


def plot(rows: list[dict], path: str | Path) -> None:
    """Top-1 against the labels, a panel for every mode and budget; needs matplotlib (extra `plot`).

    Raises:
        ValueError: labels are given as shares and as numbers.
    """
    from matplotlib.figure import Figure

    modes = [mode for mode in MODES if any(row["mode"] == mode for row in rows)]
    budgets = sorted({row["tokens"] for row in rows}, reverse=True)
    kinds = sorted({kind for kind, _ in (row["labels"] for row in rows)})
    if len(kinds) > 1:
        raise ValueError(f"a plot has one axis of labels, the runs have {' and '.join(kinds)}")
    unit, factor = ("labels (%)", 100) if kinds == ["share"] else ("labelled clips a class", 1)
    figure = Figure(figsize=(3.2 * len(budgets), 2.9 * len(modes)), layout="constrained")
    panels = figure.subplots(len(modes), len(budgets), squeeze=False, sharex=True, sharey="row")
    for mode, line in zip(modes, panels, strict=True):
        for tokens, axes in zip(budgets, line, strict=True):
            for start in STARTS:
                points = [r for r in rows if (r["mode"], r["tokens"], r["start"]) == (mode, tokens, start)]
                amounts = [factor * amount for _, amount in (row["labels"] for row in points)]
                means = [100 * row["top1"]["mean"] for row in points]
                errors = [100 * row["top1"]["std"] for row in points]
                if points:
                    axes.errorbar(amounts, means, errors, marker="o", capsize=3, label=start)
            axes.set_xscale("log")
            axes.set_title(f"{mode}, {tokens} tokens", fontsize=10)
            axes.grid(alpha=0.3)
        line[0].set_ylabel("top-1 (%)")
    for axes in panels[-1]:
        axes.set_xlabel(unit)
    panels[0][0].legend()
    figure.savefig(path, dpi=150)
