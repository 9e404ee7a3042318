"""Does pre-training help? The same classifier from scratch and from a distilled student, with few and many labels."""

import statistics
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
from transformers import set_seed

from flux_hf.data import CachedClips
from flux_hf.files import claim_folder, read_json
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

SCRATCH = "scratch"
STARTS = (SCRATCH, "Flux-Multi", "Flux-Single")
MODES = ("finetune", "probe")
SETTINGS = "student.json"
RESULTS = Path(__file__).parent / "results"


def pretrained_student(
    start: str,
    seed: int,
    options: PretrainOptions,
    args: FluxPreTrainingArguments,
    folder: Path,
    settings: dict,
) -> Path | None:
    """Folder of the student of one of STARTS, trained now unless it is there; an interrupted training goes on. None for
    SCRATCH. Flux-Single trains the middle one of `args.token_budgets` alone.

    Args:
        args: of the Flux-Multi student; changed here.
        folder: of all students.
        settings: what `options` and `args` were made of, for JSON. With start and seed it is written to SETTINGS beside
            the student before its training.

    Raises:
        ValueError: the student there was trained with other settings, or has none beside it.
    """
    if start == SCRATCH:
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
    pretrain(options, args)
    return home


def labelled_part(clips: CachedClips, share: float, seed: int) -> CachedClips:
    """The clips whose labels are given: of every class the same share, rounded up. Smaller shares are part of larger
    ones of the same seed."""
    generator = np.random.default_rng(seed)
    chosen = []
    for label in range(len(clips.label_names)):
        members = generator.permutation(np.flatnonzero(clips.labels == label))
        chosen += members[: int(np.ceil(share * len(members)))].tolist()
    rows = np.sort(chosen)
    pixels = clips.clips if share == 1 else clips.clips[rows]
    return replace(clips, clips=pixels, labels=clips.labels[rows], video_names=[clips.video_names[row] for row in rows])


def train_and_test(
    mode: str,
    share: float,
    checkpoint: Path | None,
    options: FinetuneOptions,
    train: CachedClips,
    test: CachedClips,
    args: FluxTrainingArguments,
) -> dict:
    """Train a classifier on part of the labels and test it at each of `args.token_budgets`.

    Args:
        mode: "finetune", or "probe", which trains pooling heads and classifiers alone.
        checkpoint: of the student, None for random weights of `options.model_config`.
        options: model, its changes and the grid of the test are taken from it.
        args: changed here; its batch shrinks to the clips there are.

    Returns:
        `clips`, their number; `train_seconds`; `top1`: number of tokens -> top-1.
    """
    part = labelled_part(train, share, args.seed)
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
    processor = FluxVideoProcessor(patch_size=model.config.patch_size, grids=grids)
    trainer = FluxTrainer(model=model, args=args, train_dataset=part, processing_class=processor)
    seconds = trainer.train().metrics["train_runtime"]
    found = trainer.evaluate(test)
    top1 = {str(budget): found[f"eval_top1_{budget}"] for budget in args.token_budgets}
    return {"clips": len(part), "train_seconds": seconds, "top1": top1}


def summary(runs: list[dict]) -> list[dict]:
    """A row for every mode, share of labels, number of tokens and start: mean and sample standard deviation of top-1
    over the seeds and, for pre-trained starts, the same of the gain over SCRATCH of the same seed."""
    by_setting = defaultdict(dict)
    for run in runs:
        for tokens, top1 in run["top1"].items():
            by_setting[run["mode"], run["share"], int(tokens), run["start"]][run["seed"]] = top1
    rows = []
    for (mode, share, tokens, start), by_seed in by_setting.items():
        row = {"mode": mode, "share": share, "tokens": tokens, "start": start, "top1": _spread(by_seed.values())}
        scratch = by_setting.get((mode, share, tokens, SCRATCH), {})
        gains = [top1 - scratch[seed] for seed, top1 in by_seed.items() if seed in scratch]
        if start != SCRATCH and gains:
            row["gain"] = _spread(gains)
        rows.append(row)
    order = {start: place for place, start in enumerate(STARTS)}
    return sorted(rows, key=lambda row: (row["mode"], row["share"], -row["tokens"], order[row["start"]]))


def _spread(values) -> dict[str, float]:
    values = list(values)
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return {"mean": statistics.mean(values), "std": deviation, "seeds": len(values)}


def table(rows: list[dict]) -> str:
    """The summary as a Markdown table: a line for each mode, share of labels and number of tokens."""
    starts = [start for start in STARTS if any(row["start"] == start for row in rows)]
    lines = []
    for setting in dict.fromkeys((row["mode"], row["share"], row["tokens"]) for row in rows):
        found = {row["start"]: row for row in rows if (row["mode"], row["share"], row["tokens"]) == setting}
        mode, share, tokens = setting
        lines.append([mode, f"{100 * share:g} %", tokens, *(_cell(found.get(start)) for start in starts)])
    return markdown(["mode", "labels", "tokens", *starts], lines)


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
    }


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
    text = f"{percent(row['top1']['mean'])} ± {percent(row['top1']['std'])}"
    return text + f" ({100 * row['gain']['mean']:+.1f})" if "gain" in row else text


def plot(rows: list[dict], path: str | Path) -> None:
    """Top-1 against the share of labels, a panel for every mode and budget; needs matplotlib (extra `plot`)."""
    from matplotlib.figure import Figure

    modes = [mode for mode in MODES if any(row["mode"] == mode for row in rows)]
    budgets = sorted({row["tokens"] for row in rows}, reverse=True)
    figure = Figure(figsize=(3.2 * len(budgets), 2.9 * len(modes)), layout="constrained")
    panels = figure.subplots(len(modes), len(budgets), squeeze=False, sharex=True, sharey="row")
    for mode, line in zip(modes, panels, strict=True):
        for tokens, axes in zip(budgets, line, strict=True):
            for start in STARTS:
                points = [r for r in rows if (r["mode"], r["tokens"], r["start"]) == (mode, tokens, start)]
                shares = [100 * row["share"] for row in points]
                means = [100 * row["top1"]["mean"] for row in points]
                errors = [100 * row["top1"]["std"] for row in points]
                if points:
                    axes.errorbar(shares, means, errors, marker="o", capsize=3, label=start)
            axes.set_xscale("log")
            axes.set_title(f"{mode}, {tokens} tokens", fontsize=10)
            axes.grid(alpha=0.3)
        line[0].set_ylabel("top-1 (%)")
    for axes in panels[-1]:
        axes.set_xlabel("labels (%)")
    panels[0][0].legend()
    figure.savefig(path, dpi=150)
