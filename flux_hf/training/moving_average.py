"""A moving average of the weights beside the trained ones."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from transformers import TrainerCallback

from flux_hf.files import read_tensors

FILE_NAME = "moving_average.safetensors"


class MovingAverage(TrainerCallback):
    """Averages the weights after every step with `decay`; saved in every checkpoint and read back by a resumed run.

    Not for weights in shards (FSDP, DeepSpeed ZeRO-3).

    Args:
        resumed_from: gives, when training begins, the checkpoint folder that it goes on from.
    """

    def __init__(self, model: nn.Module, decay: float, resumed_from: Callable[[], str | None]):
        self.model, self.decay, self.resumed_from = model, decay, resumed_from
        self.average = None

    def on_train_begin(self, args, state, control, **kwargs):
        self.average = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(self.decay))
        if state.global_step > 0:
            path = Path(self.resumed_from()) / FILE_NAME
            if not path.is_file():
                raise ValueError(f"{path} is missing: ema_decay cannot go on from a checkpoint without the average")
            self.average.module.load_state_dict(read_tensors(path), strict=True)
        self.average.n_averaged.fill_(1)

    def on_step_end(self, args, state, control, **kwargs):
        self.average.update_parameters(self.model)

    def save(self, folder: str | Path) -> None:
        """Write the average into a checkpoint."""
        save_file({k: v.contiguous() for k, v in self.average.module.state_dict().items()}, Path(folder) / FILE_NAME)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Inside, the model has the averaged weights (before training: its own)."""
        if self.average is None:
            yield
            return
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        for mine, averaged in zip(self.model.parameters(), self.average.module.parameters(), strict=True):
            kept = mine.clone()
            mine.copy_(averaged)
            averaged.copy_(kept)
