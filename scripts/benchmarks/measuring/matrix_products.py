"""What the machine can do at best, to compare a measurement with."""

import time

import torch


def matmul_rate(size: int = 1024, seconds: float = 1.0, dtype: torch.dtype = torch.float32) -> float:
    """Multiply-accumulates per second of square matrix products of `size` on the CPU, the fastest of the repeats that
    fit into `seconds`."""
    left, right = torch.randn(size, size, dtype=dtype), torch.randn(size, size, dtype=dtype)
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        left @ right
        best = min(best, time.perf_counter() - start)
    return size**3 / best
