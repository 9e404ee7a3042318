"""Does pre-training help? The same classifier from scratch and from a distilled student, with few and many labels."""

import json
import statistics
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
from transformers import set_seed
from transformers.trainer_utils import get_last_checkpoint

from flux_hf.data import CachedClips
from flux_hf.pretraining.arguments import FluxPreTrainingArguments
from flux_hf.pretraining.pretraining import PretrainOptions, pretrain
from flux_hf.processing.video_processing_fluxvit import FluxVideoProcessor
from flux_hf.training.arguments import FluxTrainingArguments
from flux_hf.training.finetuning import FinetuneOptions
from flux_hf.training.starting_model import ModelChanges, starting_model
from flux_hf.training.trainer import FluxTrainer

SCRATCH = "scratch"
STARTS = (SCRATCH, "Flux-Multi", "Flux-Single")
MODES = ("finetune", "probe")
SETTINGS = "student.json"


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
    _claim(home, {"start": start, "seed": seed} | settings)
    if (home / "trainer_state.json").exists():
        return home
    args.seed, args.output_dir = seed, str(home)
    args.resume_from_checkpoint = get_last_checkpoint(home) if home.exists() else None
    if start == "Flux-Single":
        budgets = sorted(args.token_budgets, reverse=True)
        args.token_budgets = [budgets[len(budgets) // 2]]
    pretrain(options, args)
    return home


def _claim(home: Path, settings: dict) -> None:
    path = home / SETTINGS
    if path.exists():
        found = json.loads(path.read_text())
        if other := sorted(name for name in found | settings if found.get(name) != settings.get(name)):
            raise ValueError(f"{home} holds a student with other settings ({', '.join(other)}); name other students")
    elif home.exists() and any(home.iterdir()):
        raise ValueError(f"{home} has no {SETTINGS} that tells how its student was trained; name other students")
    else:
        home.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(settings, indent=1) + "\n")


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
    lines = [f"| mode | labels | tokens | {' | '.join(starts)} |", "|---" * (3 + len(starts)) + "|"]
    for setting in dict.fromkeys((row["mode"], row["share"], row["tokens"]) for row in rows):
        found = {row["start"]: row for row in rows if (row["mode"], row["share"], row["tokens"]) == setting}
        mode, share, tokens = setting
        cells = [_cell(found.get(start)) for start in starts]
        lines.append(f"| {mode} | {100 * share:g} % | {tokens} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(row: dict | None) -> str:
    if row is None:
        return "-"
    text = f"{100 * row['top1']['mean']:.1f} ± {100 * row['top1']['std']:.1f}"
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
