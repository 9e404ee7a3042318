"""Training of a network in a plain loop, and how often it is right."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from flux_hf.scripts.experiments.manipulation_clips.pixels import Clips, half_backwards, random_view, whole_view
from flux_hf.scripts.experiments.manipulation_clips.tasks import OPPOSITE, PAIRS

WARM_UP = 0.1
WEIGHT_DECAY = 0.05
LABEL_SMOOTHING = 0.1
LARGEST_GRADIENT = 1.0


@dataclass(frozen=True)
class Schedule:
    """When a training ends: after `steps` or `seconds`, whichever is first. The learning rate rises in the first tenth
    and falls to 0 along a cosine."""

    learning_rate: float
    batch: int
    size: int
    steps: int
    seconds: float = math.inf


def fit(network: nn.Module, clips: Clips, schedule: Schedule, choose: Callable[[torch.Tensor], torch.Tensor]) -> int:
    """Train with AdamW, in place, half of the clips played backwards; returns the steps. `choose` takes what the
    network sees of (clips, frames, ...)."""
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=WEIGHT_DECAY)
    order, began, step = clips.labels.new_empty(0), time.perf_counter(), 0
    opposites = clips.opposites
    network.train()
    while (share := max(step / schedule.steps, (time.perf_counter() - began) / schedule.seconds)) < 1:
        if len(order) < min(schedule.batch, len(clips.labels)):
            order = torch.randperm(len(clips.labels), device=clips.labels.device)
        rows, order = order[: schedule.batch], order[schedule.batch :]
        rise, fall = min((share + 1 / schedule.steps) / WARM_UP, 1), (1 + math.cos(math.pi * share)) / 2
        optimizer.param_groups[0]["lr"] = schedule.learning_rate * rise * fall
        optimizer.zero_grad()
        frames, labels = half_backwards(clips.frames[rows], clips.labels[rows], opposites)
        logits = network(random_view(choose(frames), schedule.size))
        cross_entropy(logits, labels, label_smoothing=LABEL_SMOOTHING).backward()
        nn.utils.clip_grad_norm_(network.parameters(), LARGEST_GRADIENT)
        optimizer.step()
        step += 1
    network.eval()
    return step


@torch.inference_mode()
def scores(
    network: nn.Module, clips: Clips, schedule: Schedule, choose: Callable[[torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """Logits of all clips: float (clips, labels), on the CPU."""
    parts = clips.frames.split(schedule.batch)
    return torch.cat([network(whole_view(choose(part), schedule.size)) for part in parts]).cpu()


def accuracies(logits: torch.Tensor, labels: torch.Tensor, label_names: list[str]) -> dict:
    """`top1` of all labels, `pair`, how often the right one of a task and its opposite has the higher score, and
    `pairs`, the same for every pair, "door-open / door-close" (pairs that lack clips are left out)."""
    labels = labels.cpu()
    opposites = torch.tensor([label_names.index(OPPOSITE[name]) for name in label_names])[labels]
    rows = torch.arange(len(labels))
    told = logits[rows, labels] > logits[rows, opposites]
    pairs = {}
    for pair in PAIRS:
        members = torch.isin(labels, torch.tensor([i for i, name in enumerate(label_names) if name in pair]))
        if members.any():
            pairs[" / ".join(pair)] = told[members].double().mean().item()
    top1 = (logits.argmax(dim=1) == labels).double().mean().item()
    return {"top1": top1, "pair": told.double().mean().item(), "pairs": pairs}
