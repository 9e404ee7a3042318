"""Fixed-grid training, Flux-Single and Flux-Multi side by side: same data, same steps, tested at several budgets."""

import json
import statistics
from collections import defaultdict
from copy import copy
from pathlib import Path

import torch
from transformers import set_seed

from flux_hf.data import CachedClips
from flux_hf.processing.video_processing_fluxvit import FluxVideoProcessor
from flux_hf.training.arguments import FluxTrainingArguments
from flux_hf.training.evaluation_clips import EvaluationClips
from flux_hf.training.starting_model import ModelChanges, starting_model
from flux_hf.training.trainer import FluxTrainer

METHODS = ("fixed grid", "Flux-Single", "Flux-Multi")
SHARES = (1, 2, 4, 8)


def method_arguments(
    method: str, args: FluxTrainingArguments, grid: tuple[int, int], patch_size: int
) -> FluxTrainingArguments:
    """The arguments of one of METHODS.

    - fixed grid: always `grid` with all of its tokens, the usual way;
    - Flux-Single: grids as in `args`, always the middle one of its `token_budgets`;
    - Flux-Multi: grids and `token_budgets` as in `args`.
    """
    if method == "Flux-Multi":
        return args
    budgets = sorted(args.token_budgets, reverse=True)
    if method == "Flux-Single":
        return _changed(args, token_budgets=[budgets[len(budgets) // 2]])
    frames, size = grid
    tokens = frames * (size // patch_size) ** 2
    return _changed(
        args,
        token_budgets=[tokens],
        min_frames=frames,
        max_frames=frames,
        min_size=size,
        max_size=size,
        min_pool_tokens=tokens,
        max_pool_tokens=tokens,
    )


def _changed(args: FluxTrainingArguments, **values) -> FluxTrainingArguments:
    changed = copy(args)
    for name, value in values.items():
        setattr(changed, name, value)
    return changed


def train_and_test(
    method: str,
    train: CachedClips,
    test: CachedClips,
    args: FluxTrainingArguments,
    *,
    grid: tuple[int, int],
    model_config: str | None = None,
    checkpoint: str | None = None,
    changes: ModelChanges = ModelChanges(),  # noqa: B008 (frozen)
) -> dict:
    """Train one model and test it on `grid` at full, 1/2, 1/4 and 1/8 of its tokens.

    A model that was trained at one budget has one trained head, and is tested through that at every budget; Flux-Multi
    through the head nearest to each.

    Returns:
        `method`, `seed`, `train_seconds`, and `top1`: number of tokens -> top-1.
    """
    set_seed(args.seed)
    model = starting_model(train.label_names, checkpoint=checkpoint, config_file=model_config, changes=changes)
    processor = FluxVideoProcessor(patch_size=model.config.patch_size)
    tokens = grid[0] * (grid[1] // model.config.patch_size) ** 2
    args = method_arguments(method, args, grid, model.config.patch_size)
    trainer = FluxTrainer(model=model, args=args, train_dataset=train, processing_class=processor)
    seconds = trainer.train().metrics["train_runtime"]
    return {
        "method": method,
        "seed": args.seed,
        "train_seconds": seconds,
        "top1": accuracy_by_tokens(trainer, test, grid, [tokens // share for share in SHARES]),
    }


@torch.inference_mode()
def accuracy_by_tokens(trainer: FluxTrainer, test: CachedClips, grid: tuple[int, int], budgets: list[int]) -> dict:
    """Number of tokens -> top-1 of a trainer's model on the central view of every clip."""
    model = trainer.model.eval()
    trained = trainer.token_budgets
    only_head = model.fluxvit.resolve_head(trained[0]) if len(trained) == 1 else None
    clips = EvaluationClips(test, trainer.processing_class, [grid])
    right, size = defaultdict(int), trainer.args.per_device_eval_batch_size
    for start in range(0, len(clips), size):
        items = [clips[index] for index in range(start, min(start + size, len(clips)))]
        pixels = torch.stack([item["clips"][0] for item in items])
        labels = torch.tensor([item["label"] for item in items])
        for budget in budgets:
            predicted = model(pixels, token_budget=budget, head_index=only_head).logits.argmax(-1)
            right[budget] += int((predicted == labels).sum())
    return {str(budget): right[budget] / len(clips) for budget in budgets}


def summary(runs: list[dict]) -> dict[str, dict[str, dict[str, float]]]:
    """method -> tokens -> mean and sample standard deviation of top-1 over the seeds."""
    found = defaultdict(lambda: defaultdict(list))
    for run in runs:
        for tokens, top1 in run["top1"].items():
            found[run["method"]][tokens].append(top1)
    return {
        method: {
            tokens: {
                "mean": statistics.mean(values),
                "std": statistics.stdev(values) if len(values) > 1 else 0.0,
                "seeds": len(values),
            }
            for tokens, values in by_tokens.items()
        }
        for method, by_tokens in found.items()
    }


def plot(runs: list[dict], path: str | Path) -> None:
    """Top-1 against tokens, a line per method with the deviation over seeds; needs matplotlib (extra `plot`)."""
    from matplotlib.figure import Figure

    axes = (figure := Figure(figsize=(6, 4), layout="constrained")).subplots()
    for method, by_tokens in summary(runs).items():
        tokens = sorted(by_tokens, key=int)
        means = [100 * by_tokens[count]["mean"] for count in tokens]
        errors = [100 * by_tokens[count]["std"] for count in tokens]
        axes.errorbar([int(count) for count in tokens], means, errors, marker="o", capsize=3, label=method)
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks := sorted({int(count) for run in runs for count in run["top1"]}), [str(t) for t in ticks])
    axes.set(xlabel="tokens kept", ylabel="top-1 (%)")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=150)


def read_runs(path: str | Path) -> list[dict]:
    """The runs of a file that an earlier, perhaps interrupted, comparison wrote; none when there is no file."""
    return json.loads(Path(path).read_text())["runs"] if Path(path).exists() else []
