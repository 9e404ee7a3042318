"""Two processes of one gloo group on a CPU, for scripts that a test runs in a process of its own."""

import sys
from collections.abc import Callable
from multiprocessing import get_context

import torch
import torch.distributed as dist


def run_two_ranks(step: Callable[[int], object], file: str) -> None:
    """Call `step(rank)` in two forks, save what it returns in `file`.RANK, and exit: with 0 where both ended well."""
    fork = get_context("fork")
    ranks = [fork.Process(target=_rank, args=(step, rank, file)) for rank in range(2)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join()
    sys.exit(int(any(rank.exitcode for rank in ranks)))


def _rank(step: Callable[[int], object], rank: int, file: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    torch.save(step(rank), f"{file}.{rank}")
    dist.destroy_process_group()
