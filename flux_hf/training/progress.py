"""What a training run prints while it goes on: where it runs, one bar, and one line for every entry of the log."""

import torch
from datasets import IterableDataset
from tqdm.auto import tqdm
from transformers import PrinterCallback, ProgressCallback, Trainer, TrainingArguments

from flux_hf.data import CachedClips


class ProgressLines(ProgressCallback):
    """In place of the dictionaries of Transformers. Without a terminal there is no bar.

    Args:
        can_cache: training reads video files that `--cache_dir` would decode once.
    """

    def __init__(self, can_cache: bool = False):
        super().__init__()
        self.can_cache = can_cache

    def on_train_begin(self, args, state, control, **kwargs):
        if state.is_world_process_zero:
            disable = True if args.disable_tqdm else None
            self.training_bar = tqdm(total=state.max_steps, desc="training", dynamic_ncols=True, disable=disable)
            self.training_bar.write(device_line(args))
        self.current_step, self.explained, self.advised = 0, False, False

    def on_prediction_step(self, *args, **kwargs):
        pass

    def on_log(self, args, state, control, logs=None, **kwargs):
        if self.training_bar is not None and (line := log_line(logs, state)):
            self.training_bar.write(line + self._explained(logs))
            if not self.advised and (advice := loading_advice(logs, self.can_cache)):
                self.training_bar.write(advice)
                self.advised = True

    def _explained(self, logs: dict) -> str:
        """What the loss is made of, the first time that it is shown."""
        parts = [f"{name} {value:.4g}" for name, value in logs.items() if name.startswith(("loss_", "alignment_"))]
        if self.explained or len(parts) < 2:
            return ""
        self.explained = True
        return f"; the loss is the sum of {', '.join(parts)}"


def show_progress_lines(trainer: Trainer) -> None:
    """Replace the callback that prints dictionaries. That of a notebook stays."""
    replaced = [trainer.pop_callback(callback) for callback in (PrinterCallback, ProgressCallback)]
    if any(replaced):
        trainer.add_callback(ProgressLines(not isinstance(trainer.train_dataset, CachedClips | IterableDataset)))


def device_line(args: TrainingArguments) -> str:
    """`training on cpu in bf16`; says so where a GPU stays idle because of `use_cpu`, which recipes for CPUs have."""
    precision = "bf16" if args.bf16 else "fp16" if args.fp16 else "float32"
    name = f" ({torch.cuda.get_device_name(args.device)})" if args.device.type == "cuda" else ""
    idle = " because of use_cpu, although there is a GPU" if args.use_cpu and torch.cuda.is_available() else ""
    return f"training on {args.device}{name} in {precision}{idle}"


def log_line(logs: dict, state) -> str | None:
    """One entry of the log in words; None for the summary at the end of training."""
    where = f"step {state.global_step} of {state.max_steps} (epoch {logs.get('epoch', 0):.4g})"
    if accuracy := accuracy_text(logs):
        return f"{where}: {accuracy} right in evaluation"
    if recall := recall_text(logs):
        return f"{where}: {recall}"
    if "loss" not in logs:
        return None
    skipped = f", {logs['unreadable_videos']} unreadable videos skipped" if "unreadable_videos" in logs else ""
    return f"{where}: loss {logs['loss']:.4g}, learning rate {logs['learning_rate']:.2g}{skipped}"


def loading_advice(logs: dict, can_cache: bool) -> str | None:
    """What would shorten a step that waits for its clips twice as long as it computes; None where it does not.

    Args:
        logs: an entry of the log of a [`ClipTrainer`], with `data_seconds` and `step_seconds`.
        can_cache: as in [`ProgressLines`].
    """
    waits, computes = logs.get("data_seconds", 0.0), logs.get("step_seconds", 0.0)
    if waits <= 2 * computes:
        return None
    once = "; --cache_dir DIR decodes every video once, for all epochs" if can_cache else ""
    return (
        f"a step waits {waits:.2g} s for its clips and computes {computes:.2g} s: --dataloader_num_workers N loads "
        f"with more processes{once}"
    )


def accuracy_text(metrics: dict) -> str | None:
    """`62.5 % at 256 tokens, 58.3 % at 128`, the largest budget first; None where `metrics` has no accuracy."""
    return _at_budgets(metrics, "eval_top1_")


def recall_text(metrics: dict) -> str | None:
    """`captions that find their clip first: 62.5 % at 256 tokens, 58.3 % at 128 (chance 2.1 %)`; None where `metrics`
    has no recalls."""
    recalls = _at_budgets(metrics, "eval_r1_")
    if recalls is None:
        return None
    return f"captions that find their clip first: {recalls} (chance {100 * metrics['eval_chance_r1']:.2g} %)"


def _at_budgets(metrics: dict, prefix: str) -> str | None:
    found = {int(name.removeprefix(prefix)): share for name, share in metrics.items() if name.startswith(prefix)}
    parts = [f"{100 * found[budget]:.1f} % at {budget}" for budget in sorted(found, reverse=True)]
    return ", ".join([f"{parts[0]} tokens", *parts[1:]]) if parts else None
