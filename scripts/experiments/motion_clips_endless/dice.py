"""Random numbers of one generator on one device."""

import math
from collections.abc import Sequence

import torch


class Dice:
    """What is drawn depends on the seed and the order of the draws alone (and on the kind of device)."""

    def __init__(self, device: torch.device | str = "cpu", seed: int = 0):
        self.device = torch.device(device)
        self.generator = torch.Generator(self.device)
        self.seed(seed)

    def seed(self, seed: int) -> None:
        self.generator.manual_seed(seed)

    def uniform(self, shape: Sequence[int], low: float = 0.0, high: float = 1.0) -> torch.Tensor:
        return torch.rand(*shape, device=self.device, generator=self.generator) * (high - low) + low

    def log_uniform(self, shape: Sequence[int], low: float, high: float) -> torch.Tensor:
        return self.uniform(shape, math.log(low), math.log(high)).exp()

    def normal(self, shape: Sequence[int]) -> torch.Tensor:
        return torch.randn(*shape, device=self.device, generator=self.generator)

    def integers(self, shape: Sequence[int], below: int) -> torch.Tensor:
        return torch.randint(below, tuple(shape), device=self.device, generator=self.generator)

    def chance(self, shape: Sequence[int], share: float) -> torch.Tensor:
        """True in this share of places, on average."""
        return self.uniform(shape) < share

    def some(self, count: int, share: float) -> torch.Tensor:
        """Places of a share of `count` things, always as many."""
        return torch.randperm(count, device=self.device, generator=self.generator)[: round(share * count)]
