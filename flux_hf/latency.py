"""How long forwards take, and on what machine."""

import statistics
import time
from collections.abc import Callable

import torch

from flux_hf.provenance import cpu_model

TIMED_RUNS = 5


def median_ms(run: Callable[[], object], runs: int = TIMED_RUNS) -> float:
    """Median milliseconds of `runs` calls after one that is not counted."""
    run()
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        run()
        times.append(1000 * (time.perf_counter() - started))
    return statistics.median(times)


def machine(device: torch.device | str = "cpu") -> str:
    """Processor and threads in use, or GPU, and PyTorch version, for people; without the machine's name."""
    if torch.device(device).type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, PyTorch {torch.__version__}"
    threads = torch.get_num_threads()
    return f"{cpu_model()}, {threads} thread{'s' * (threads != 1)}, PyTorch {torch.__version__}"


@torch.inference_mode()
def forward_latency(model, processor, token_budgets: list[int]) -> dict:
    """Time the model's forward on one clip at the processor's grid of every budget.

    Returns:
        `machine` and `milliseconds` (budget -> median of five runs), without decoding.
    """
    milliseconds = {}
    for budget in token_budgets:
        grid = processor.choose_grid(budget)
        shape = (1, grid.frames, model.num_channels, *grid.pixels())
        video = torch.randn(shape, dtype=model.dtype, device=model.device)
        milliseconds[budget] = median_ms(lambda: model(video, token_budget=budget)[0].sum().item())  # noqa: B023
    return {"machine": machine(model.device), "milliseconds": milliseconds}
