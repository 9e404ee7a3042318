"""Global position embedding: one learned table for every sampling grid."""

from contextlib import nullcontext

import torch
from torch import nn

from .configuration_fluxvit import FluxViTConfig

CACHED_GRIDS = 8


class PositionEmbedding(nn.Module):
    """A learned (frames, rows, columns) table, initialised with sines and cosines, that is interpolated to the grid of
    the clips: linearly in time, then bicubically in space (`expand_pos_embed` of the official code). A scale and a
    shift per channel, the paper's GPE convolution, act on the table. They are affine, so they may come before or after
    the interpolation.

    Outside training, without gradients, interpolated tables are kept for the last few grids, but not for CUDA graphs.
    """

    def __init__(self, config: FluxViTConfig):
        super().__init__()
        side = config.position_size // config.patch_size
        times = config.position_frames // config.tubelet_size
        self.stored_grid = (times, side, side)
        self.cls = nn.Parameter(torch.zeros(1, 1, config.hidden_size))
        self.table = nn.Parameter(torch.zeros(times * side * side, config.hidden_size))
        self.weight = nn.Parameter(torch.ones(config.hidden_size))
        self.bias = nn.Parameter(torch.zeros(config.hidden_size))
        self._cache: dict[tuple, torch.Tensor] = {}

    def forward(self, frames: int, rows: int, columns: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Positions of the cls token (1, 1, hidden_size) and of the grid (frames * rows * columns, hidden_size)."""
        grid = (frames, rows, columns)
        if torch.is_grad_enabled() or torch.compiler.is_compiling() or _in_graph_capture(self.table):
            return self.cls, self._grid_positions(grid)
        state = tuple((p.data_ptr(), p.dtype, 0 if p.is_inference() else p._version) for p in self.parameters())
        key = (grid, state)
        if key not in self._cache:
            while len(self._cache) >= CACHED_GRIDS:
                self._cache.pop(next(iter(self._cache)))
            self._cache[key] = self._grid_positions(grid)
        return self.cls, self._cache[key]

    def train(self, mode: bool = True) -> "PositionEmbedding":
        if mode:
            self._cache.clear()
        return super().train(mode)

    def _grid_positions(self, grid: tuple[int, int, int]) -> torch.Tensor:
        table = self.table.float()
        if grid != self.stored_grid:
            table = interpolate_positions(table, self.stored_grid, grid)
        return (table * self.weight + self.bias).to(self.table.dtype)


def _in_graph_capture(tensor: torch.Tensor) -> bool:
    """Whether a CUDA graph is being captured. A graph must not depend on a kept table, which is freed when others take
    its place, nor may others use one whose values exist only after a replay."""
    return tensor.is_cuda and torch.cuda.is_current_stream_capturing()


def sine_cosine_table(grid: tuple[int, int, int], width: int) -> torch.Tensor:
    """Initial table (frames * rows * columns, width) of a (frames, rows, columns) grid: the first quarter of the
    channels codes time, the rest in two halves column and row, each as sines then cosines with base 10000."""
    frame, row, column = torch.meshgrid(*(torch.arange(n, dtype=torch.float32) for n in grid), indexing="ij")
    time_width = width // 4
    column_width = (width - time_width) // 2
    row_width = width - time_width - column_width
    parts = [(frame, time_width), (column, column_width), (row, row_width)]
    return torch.cat([_sines_and_cosines(values.flatten(), size) for values, size in parts], dim=1)


def _sines_and_cosines(values: torch.Tensor, width: int) -> torch.Tensor:
    """(n,) -> (n, width); an odd last channel stays zero."""
    half = width // 2
    angles = values[:, None] * 10000.0 ** (-torch.arange(half, dtype=torch.float32) / max(half, 1))
    return nn.functional.pad(torch.cat([angles.sin(), angles.cos()], dim=1), (0, width - 2 * half))


def interpolate_positions(
    table: torch.Tensor, stored: tuple[int, int, int], grid: tuple[int, int, int]
) -> torch.Tensor:
    """(stored frames * rows * columns, channels) -> (frames * rows * columns, channels), linearly in time, then
    bicubically in space, in float32.

    Each axis is a matrix product with the weights that torch's interpolation has along it: its own kernels run along
    the grid and leave the channels, of which there are many more, to one thread of a GPU.
    """
    dtype, kind = table.dtype, table.device.type
    table = table.float().reshape(*stored, -1)
    # An export holds the region without autocast where there is one, and cannot be loaded.
    autocast = kind != "meta" and torch.is_autocast_enabled(kind)
    with torch.autocast(kind, enabled=False) if autocast else nullcontext():
        for axis, (before, after) in enumerate(zip(stored, grid, strict=True)):
            if before != after:
                weights = _interpolation_weights(before, after, axis == 0, table.device)
                shape = table.shape
                lines = table.reshape(*shape[:axis], before, -1)
                table = (weights @ lines).reshape(*shape[:axis], after, *shape[axis + 1 :])
    return table.reshape(-1, table.shape[-1]).to(dtype)


def _interpolation_weights(before: int, after: int, linear: bool, device: torch.device) -> torch.Tensor:
    """float32 (after, before): what torch's interpolation takes of each value along an axis, linear or cubic."""
    unit = torch.eye(before, device=device)
    if linear:
        return nn.functional.interpolate(unit[None], size=after, mode="linear")[0].T
    return nn.functional.interpolate(unit[None, None], size=(after, before), mode="bicubic")[0, 0]
