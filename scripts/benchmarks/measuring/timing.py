"""Several things timed against each other in one run, taking turns."""

import statistics
from collections.abc import Callable, Mapping

from flux_hf.scripts.benchmarks.measuring.device import clock


def alternating(
    runs: Mapping[str, Callable[[], object]], repeats: int, most_seconds: float = 60.0, device: str = "cpu"
) -> dict[str, dict]:
    """Time `runs` in turns on `device`, so that whatever else the machine does slows all of them alike.

    Each runs once uncounted, then up to `repeats` times; one that has used `most_seconds` in all, the uncounted run
    among them, is left out of further turns. One that is left out after its uncounted run has that one's time.

    Returns:
        name -> `seconds` (the median), `spread` [fastest, slowest], `repeats`; or `error` for one that raised.
    """
    times, spent, errors = {name: [] for name in runs}, dict.fromkeys(runs, 0.0), {}
    first, seconds_of = {}, clock(device)
    for turn in range(repeats + 1):
        for name, run in runs.items():
            if name in errors or (turn and spent[name] > most_seconds):
                continue
            try:
                seconds = seconds_of(run)
            except Exception as error:
                errors[name] = f"{type(error).__name__}: {error}".partition("\n")[0]
                continue
            spent[name] += seconds
            if turn:
                times[name].append(seconds)
            else:
                first[name] = seconds
    results = {}
    for name in runs:
        if name in errors:
            results[name] = {"error": errors[name]}
            continue
        results[name] = spread(times[name] or [first[name]]) | {"repeats": len(times[name])}
    return results


def spread(times: list[float]) -> dict:
    """`seconds` (the median), `spread` [fastest, slowest] and `repeats` of measured seconds."""
    return {"seconds": statistics.median(times), "spread": [min(times), max(times)], "repeats": len(times)}
