"""What a measurement was made with, for the JSON files that benchmarks write."""

import os
import platform
import sys
import time
from importlib.metadata import version

import torch

PACKAGES = ("torch", "torchvision", "transformers", "accelerate", "datasets", "av")


def provenance(command: str, argv: list[str] | None) -> dict:
    """Command line, date, machine and versions."""
    return {
        "command": " ".join(["flux-hf", command, *(sys.argv[1:] if argv is None else argv)]),
        "date": time.strftime("%Y-%m-%d"),
        "machine": {
            "architecture": platform.machine(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "capability": torch.backends.cpu.get_cpu_capability(),
        },
        "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
    }


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
