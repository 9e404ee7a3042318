"""Successive halving over grids, on growing subsets of a calibration split.

The rule. In round r of R every grid that is still in has been tried on ceil(N / 2^(R - r)) of the N videos, the classes
taken in turn; then, of the K grids of a budget, the ceil(K^(1 - r / R)) best stay, and in the last round one. Best is
the highest accuracy; equals are ordered by the mean probability of the true class, then by cost, then by tokens of the
grid. With the objectives "gmacs" and "latency_ms" the last round ends otherwise: the cheapest grid wins among those
that are not significantly worse than the most accurate one (one-sided exact sign test on the videos where just one of
the two is right, 5 %). Successive halving: Jamieson & Talwalkar, AISTATS 2016.

One decoding of a video serves all grids of all budgets.
"""

import json
import math
from pathlib import Path

import numpy as np
from accelerate.utils import gather_object
from datasets import Dataset

from flux_hf.costs import clip_tokens
from flux_hf.evaluation.accuracy import model_labels
from flux_hf.evaluation.processes import complete_records, open_records, process_state
from flux_hf.evaluation.scoring import Arm, Forward, logits_at_budget, score_videos
from flux_hf.files import read_json, write_text
from flux_hf.modeling.flux_model_fluxvit import FluxModel
from flux_hf.processing.video_processing_fluxvit import FluxVideoProcessor
from flux_hf.processing.views_fluxvit import Views, check_processor
from flux_hf.provenance import file_list_hash, model_hash
from flux_hf.token_optimization.candidates import OBJECTIVES, candidate_grids, grid_cost

SIGNIFICANCE = 0.05


def halving_schedule(num_grids: int, num_videos: int, rounds: int) -> list[tuple[int, int]]:
    """(videos every grid has been tried on, grids that stay) after each round."""
    videos = [math.ceil(num_videos / 2 ** (rounds - r)) for r in range(1, rounds + 1)]
    # The small number keeps whole powers, which floats may overshoot, from being rounded up.
    stay = [math.ceil(num_grids ** (1 - r / rounds) - 1e-9) for r in range(1, rounds + 1)]
    return list(zip(videos, stay, strict=True))


def balanced_order(labels: list[int], seed: int) -> list[int]:
    """All rows, in random order within a class, the classes in turn."""
    draw = np.random.default_rng(seed)
    places = np.empty(len(labels), dtype=np.int64)
    for label in sorted(set(labels)):
        rows = np.flatnonzero(np.asarray(labels) == label)
        places[draw.permutation(rows)] = np.arange(len(rows))
    return [int(row) for row in np.lexsort((draw.permutation(len(labels)), places))]


def halves(dataset: Dataset, seed: int) -> tuple[Dataset, Dataset]:
    """Two halves of a labelled data set, drawn by seed, with every class in both halves alike (to one video).

    Raises:
        ValueError: there are fewer than two videos.
    """
    if len(dataset) < 2:
        raise ValueError(f"{len(dataset)} videos do not make two halves")
    labels = dataset["label"][:]
    rows = sorted(balanced_order(labels, seed), key=labels.__getitem__)  # of equal labels the random order stays
    return dataset.select(sorted(rows[::2])), dataset.select(sorted(rows[1::2]))


def sign_test(better: int, worse: int) -> float:
    """Probability of at most `worse` of `better` + `worse` fair coin flips: small when the difference is more than
    chance."""
    flips = better + worse
    return sum(math.comb(flips, k) for k in range(worse + 1)) / 2**flips


def alone_right(one: list[bool], other: list[bool]) -> tuple[int, int]:
    """Of two lists for the same videos: how many are right in `one` alone, and in `other` alone."""
    pairs = list(zip(one, other, strict=True))
    return sum(a and not b for a, b in pairs), sum(b and not a for a, b in pairs)


def search_grids(
    calibration: Dataset,
    model: FluxModel,
    processor: FluxVideoProcessor,
    token_budgets: list[int],
    frames: list[int],
    sizes: list[int],
    *,
    objective: str = "tokens",
    max_cost: float | None = None,
    rounds: int = 4,
    seed: int = 0,
    batch_size: int = 32,
    num_workers: int = 0,
    records_dir: str | Path | None = None,
    forward: Forward = logits_at_budget,
) -> dict:
    """The best grid of `frames` x `sizes` for each budget, by the rule above. One clip, central crop.

    Args:
        calibration: labelled videos to search on, as `load_video_dataset` returns them.
        objective: what grids cost, see `grid_cost`; decides between grids that are equally accurate.
        max_cost: grids that cost more are left out.
        rounds: R of the rule; 1 tries every grid on every video.
        records_dir, batch_size, num_workers: as in `evaluate`. A search that was interrupted goes on from `records_dir`
            and comes to the same result.
        forward: what computes the logits. Not part of the settings that are compared when a search goes on.

    Returns:
        `rule` (settings of the search), `budgets`: for each `grid` (the winner), `cost`, `equal` (the grids of the last
        round that are not significantly worse than the most accurate one, itself among them) and `grids`, a list of
        what is known of every candidate: `grid`, `tokens`, `cost`, `videos` (how many it was tried on), `right`,
        `accuracy`, `label_score`, `rounds` (how many it was in); and `compute`: `evaluations` (videos x grids),
        `exhaustive` (all grids on all videos), `share`, `gmacs` and `gmacs_exhaustive`, `videos` and `unreadable`.

    Raises:
        ValueError: a setting is not accepted, no grid is left, or `records_dir` holds results of other settings.
    """
    _check(processor, objective, rounds, token_budgets)
    tubelet_size, patch_size = model.patch_shape
    candidates = [
        Arm(budget, grid, forward)
        for budget in token_budgets
        for grid in candidate_grids(budget, frames, sizes, patch_size, tubelet_size)
    ]
    rule = {"objective": objective, "max_cost": max_cost, "rounds": rounds, "seed": seed}
    settings = {
        "files": file_list_hash(calibration),
        "model": model_hash(model),
        "processor": processor.to_dict(),
        "grids": [[arm.token_budget, *arm.grid] for arm in candidates],
        "rule": rule,
    }
    folder, done = open_records(records_dir, settings)
    costs = _costs(candidates, objective, model, processor, calibration, folder)
    arms = [arm for arm in costs if max_cost is None or costs[arm] <= max_cost]
    for budget in token_budgets:
        if not any(arm.token_budget == budget for arm in arms):
            least = min(cost for arm, cost in costs.items() if arm.token_budget == budget)
            raise ValueError(
                f"no grid for {budget} tokens costs {max_cost} {objective} or less, the least is {least:.4g}"
            )
    label_ids = model_labels(calibration, model)
    order = balanced_order(calibration["label"][:], seed)
    options = {"label_ids": label_ids, "batch_size": batch_size, "num_workers": num_workers}

    left, tried, seen = list(arms), {arm: [] for arm in arms}, 0
    unreadable, rounds_in = 0, dict.fromkeys(arms, 0)
    for number in range(1, rounds + 1):
        until = math.ceil(len(order) / 2 ** (rounds - number))
        # A video's record names the grids it was tried on: a few measured milliseconds may decide otherwise next time.
        keys = [[arm.token_budget, *arm.grid] for arm in left]
        usable = {row: record for row, record in done.items() if record["tried"] == keys}

        def score(rows, left=left, keys=keys):
            for record in score_videos(calibration, rows, model, processor, left, Views(), **options):
                yield record | {"tried": keys}

        description = f"round {number} of {rounds}, {len(left)} grids"
        records, _ = complete_records(order[seen:until], usable, score, folder, description)
        for record in records:
            unreadable += "reason" in record
            for arm, answer in zip(left, record.get("arms", []), strict="reason" not in record):
                tried[arm].append((answer["top"][0] == record["label"], answer["label_score"]))
        seen = until
        for arm in left:
            rounds_in[arm] = number
        finalists = left
        left = [
            arm
            for budget in token_budgets
            for arm in _best(
                [a for a in left if a.token_budget == budget],
                tried,
                costs,
                model,
                halving_schedule(sum(a.token_budget == budget for a in arms), len(order), rounds)[number - 1][1],
            )
        ]
    winners = {arm.token_budget: arm for arm in left}
    equal = {
        budget: [arm for arm in finalists if arm.token_budget == budget and _not_worse(arm, best, tried)]
        for budget, best in winners.items()
    }
    if objective != "tokens":
        winners = {budget: min(arms, key=costs.get) for budget, arms in equal.items()}
    return {
        "rule": rule,
        "budgets": {
            budget: {
                "grid": list(arm.grid),
                "cost": costs[arm],
                "equal": [list(other.grid) for other in equal[budget]],
                "grids": [_known(a, tried[a], costs[a], rounds_in[a], model) for a in arms if a.token_budget == budget],
            }
            for budget, arm in winners.items()
        },
        "compute": _compute(arms, tried, model, processor, len(order), unreadable),
    }


def _costs(arms: list[Arm], objective: str, model, processor, calibration, folder) -> dict[Arm, float]:
    """Cost of every candidate. Measured milliseconds differ between processes and from run to run, so all processes
    take those of the first one, and a search that goes on takes those it began with."""
    file = folder.folder / "costs.json" if folder else None
    if file and file.exists():
        costs = read_json(file)
        if not isinstance(costs, list) or len(costs) != len(arms):
            raise ValueError(f"{file} is damaged, delete it: it has no cost for each of the {len(arms)} grids")
    else:
        costs = [grid_cost(objective, model, processor, arm.token_budget, arm.grid, calibration) for arm in arms]
    costs = gather_object([costs])[0]
    if file and process_state().is_main_process:
        write_text(file, json.dumps(costs))
    return dict(zip(arms, costs, strict=True))


def _check(processor: FluxVideoProcessor, objective: str, rounds: int, token_budgets: list[int]):
    check_processor(processor, Views())
    if processor.size is not None or processor.num_frames is not None or processor.crop_size is not None:
        raise ValueError("the processor's own size, crop_size or num_frames wins over any grid; set them to None")
    if processor.decoding == "keyframes":
        raise ValueError('decoding="keyframes" follows each film to its own grid; search grids with "fast" or "exact"')
    if objective not in OBJECTIVES:
        raise ValueError(f"objective must be one of {', '.join(OBJECTIVES)}, got {objective!r}")
    if rounds < 1:
        raise ValueError(f"rounds must be >= 1, got {rounds}")
    if not token_budgets or len(set(token_budgets)) < len(token_budgets):
        raise ValueError(f"token_budgets must name at least one budget, each once, got {list(token_budgets)}")


def _best(arms: list[Arm], tried: dict, costs: dict, model: FluxModel, stay: int) -> list[Arm]:
    def order(arm: Arm):
        right, scores = zip(*tried[arm], strict=True) if tried[arm] else ((0,), (0.0,))
        return -np.mean(right), -np.mean(scores), costs[arm], clip_tokens(model, arm.grid)

    return sorted(arms, key=order)[:stay]


def _not_worse(arm: Arm, best: Arm, tried: dict) -> bool:
    better, worse = alone_right([hit for hit, _ in tried[best]], [hit for hit, _ in tried[arm]])
    return better <= worse or sign_test(better, worse) >= SIGNIFICANCE


def _known(arm: Arm, tried: list, cost: float, rounds: int, model: FluxModel) -> dict:
    right = sum(hit for hit, _ in tried)
    return {
        "grid": list(arm.grid),
        "tokens": clip_tokens(model, arm.grid),
        "cost": cost,
        "videos": len(tried),
        "right": right,
        "accuracy": right / len(tried) if tried else None,
        "label_score": float(np.mean([score for _, score in tried])) if tried else None,
        "rounds": rounds,
    }


def _compute(arms: list[Arm], tried: dict, model, processor, videos: int, unreadable: int) -> dict:
    def gmacs(arm: Arm) -> float:
        return grid_cost("gmacs", model, processor, arm.token_budget, arm.grid, None)

    readable = videos - unreadable
    evaluations = sum(map(len, tried.values()))
    return {
        "videos": readable,
        "unreadable": unreadable,
        "evaluations": evaluations,
        "exhaustive": len(arms) * readable,
        "share": evaluations / max(len(arms) * readable, 1),
        "gmacs": sum(len(tried[arm]) * gmacs(arm) for arm in arms),
        "gmacs_exhaustive": readable * sum(map(gmacs, arms)),
    }
