"""Clocks, memory and graphs of the device that a benchmark runs on."""

import time
from collections.abc import Callable

import torch

Run = Callable[[], object]


def clock(device: str) -> Callable[[Run], float]:
    """What times one call on a device in seconds, until all of its work is done: events on a GPU, where the queue is
    empty when the call begins."""
    return _seconds_of_events if device == "cuda" else _seconds_of_wall


def _seconds_of_events(run: Run) -> float:
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    start.record()
    run()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1000


def _seconds_of_wall(run: Run) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def captured(run: Run) -> Run:
    """Replays of a CUDA graph of `run`, which has to do the same at each call; all of its kernels, no Python."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(2):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


def peak_bytes(run: Run) -> int:
    """How far one call raises the memory allocated on the GPU, at its highest."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before
