"""Thresholds of `token_budget="auto"`: chosen on labelled videos, for a target.

Every video is answered at every budget, on one grid. Then all ways to go from a budget to a larger one are tried on
these answers: two or three of the budgets, and thresholds at quantiles of the confidences, for each budget its own. Of
those that keep to the target the cheapest is taken, or, where the target is a cost, the most accurate.

What is lost are videos that the largest budget gets right and the way there does not; others that only the smaller
budgets get right do not make up for them. Of a few hundred videos the difference of two accuracies is mostly chance:
thresholds that were chosen by it on half of 450 videos lost 2 points on the other half for a target of 0.5, those by
this rule none.

Then, for each budget but the last, from the largest on, comes how much the tokens that the next one adds must change:
no more than what loses no video that is right without it, and so the target holds. On clips unlike those of the
training the largest budget can be wrong where a smaller one is right; where there are some, as many videos as possible
are to be right. Where fewer than five ways to a larger budget end there is no such limit: it says little that of so few
none is lost.
"""

import itertools
import json
import math
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from datasets import Dataset

from flux_hf.costs import budgets_gmacs, clip_tokens, view_gmacs
from flux_hf.evaluation.accuracy import evaluate, forward_auto, model_labels
from flux_hf.evaluation.processes import complete_records, open_records
from flux_hf.evaluation.records import load_records
from flux_hf.evaluation.report import answered_shares, top1_in_percent
from flux_hf.evaluation.scoring import Arm, score_videos
from flux_hf.files import read_json, whole_folder, write_text
from flux_hf.modeling.adaptive_budget_fluxvit import AUTO, AdaptiveBudget
from flux_hf.modeling.flux_model_fluxvit import FluxModel
from flux_hf.plugin import load_video_processor
from flux_hf.processing.grid_fluxvit import Grid, as_grid
from flux_hf.processing.video_processing_fluxvit import FluxVideoProcessor
from flux_hf.processing.views_fluxvit import Views, check_processor
from flux_hf.provenance import file_list_hash, model_hash
from flux_hf.tables import table
from flux_hf.token_optimization.candidates import with_grids
from flux_hf.token_optimization.saving import goes_with_code, write_processor
from flux_hf.token_optimization.search import alone_right, sign_test

MOST_STEPS = 3
QUANTILES = 64
FEWEST_ENDED = 5


@dataclass(frozen=True)
class Target:
    """What thresholds are chosen for: of 100 videos at most `value` that the largest budget gets right and "auto" does
    not ("points"), or at most `value` GMACs in the mean ("gmacs")."""

    value: float
    unit: str

    def __str__(self) -> str:
        return f"{self.value:g} {self.unit}"


def parse_target(text: str) -> Target:
    """The target that a text like "0.5 points" or "0.16 gmacs" means. Raises ValueError for any other."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(points?|gmacs)\s*", text, re.IGNORECASE)
    if not found:
        raise ValueError(
            f'must be points of accuracy that may be lost, as "0.5 points", or mean GMACs, as "0.2 gmacs", got {text!r}'
        )
    return Target(float(found[1]), "gmacs" if found[2].lower() == "gmacs" else "points")


@dataclass(frozen=True)
class Answers:
    """What a model says of some videos at some budgets.

    Attributes:
        token_budgets: ascending.
        kept: how many tokens of the grid each of them keeps; what a smaller one keeps a larger one does, too.
        right: bool (budgets, videos).
        confidence: probability of the best class, (budgets, videos).
        changes: how much the tokens that the next budget adds change, see `added_changes`, (budgets - 1, videos); NaN
            where it adds none.
        embedding_gmacs: 1e9 multiply-accumulates of what all budgets share.
        encoder_gmacs: those of the rest, one a budget.
    """

    token_budgets: tuple[int, ...]
    kept: tuple[int, ...]
    right: np.ndarray
    confidence: np.ndarray
    changes: np.ndarray
    embedding_gmacs: float
    encoder_gmacs: tuple[float, ...]


def calibrate(
    calibration: Dataset,
    test: Dataset,
    model: FluxModel,
    processor: FluxVideoProcessor,
    token_budgets: list[int],
    target: Target,
    unlike: Dataset | None = None,
    *,
    records_dir: str | Path,
    batch_size: int = 32,
    num_workers: int = 0,
) -> dict:
    """Choose thresholds on one data set, set `config.adaptive_budget` of the model, and report on another.

    Args:
        calibration, test: labelled videos, as `load_video_dataset` returns them.
        token_budgets: at least two, from which two or three are chosen.
        unlike: labelled videos of the same classes that are unlike those of the training, see [`with_changes`].
        records_dir, batch_size, num_workers: as in `evaluate`; an interrupted calibration goes on from there.

    Returns:
        `adaptive_budget` (what the configuration holds now), `grid` (of all its budgets), `target`, `calibration`
        (`videos`, `unreadable`, `top1` and `gmacs` of what was chosen, `largest_top1`, `videos_unlike`), `test` (what
        `evaluate` says at the budgets, each on its own grid, and at "auto"), `paired`, see
        [`comparison_with_largest`], and `without_changes`, see [`without_changes`], None where no changes were chosen.

    Raises:
        ValueError: as of [`answers_at_budgets`] and [`choose_thresholds`].
    """
    budgets, folder = sorted(set(token_budgets), reverse=True), Path(records_dir)
    stored = AUTO in (processor.grids or {})
    grid = processor.choose_grid(AUTO if stored else budgets[0])
    shared = {"batch_size": batch_size, "num_workers": num_workers}
    answers, unreadable = answers_at_budgets(
        calibration, model, processor, budgets, grid, records_dir=folder / "calibration", **shared
    )
    chosen, figures = choose_thresholds(answers, target)
    others = None
    if unlike is not None:
        others, _ = answers_at_budgets(unlike, model, processor, budgets, grid, records_dir=folder / "unlike", **shared)
    chosen = with_changes(answers, chosen, others)
    if chosen.changes is not None:
        figures |= figures_of(answers, chosen)
    model.flux_settings.adaptive_budget = chosen.to_dict()
    tried = [*budgets, AUTO]
    reading = processor if stored else with_auto_grid(processor, grid)
    report = evaluate(test, model, reading, tried, records_dir=folder / "test", **shared)
    records = load_records(folder / "test")
    return {
        "adaptive_budget": chosen.to_dict(),
        "grid": list(grid),
        "target": str(target),
        "calibration": {"videos": answers.right.shape[1], "unreadable": unreadable, **figures}
        | {"videos_unlike": 0 if others is None else others.right.shape[1]},
        "test": report,
        "paired": comparison_with_largest(records, tried),
        "without_changes": without_changes(
            test, model, reading, records, tried, records_dir=folder / "test_without_changes", **shared
        ),
    }


def without_changes(
    dataset: Dataset,
    model: FluxModel,
    processor: FluxVideoProcessor,
    records: list[dict],
    token_budgets: list[int | str],
    **options,
) -> dict | None:
    """What "auto" would do if it did not look at how much changes: of `evaluate` at "auto" `gmacs`, `top1`,
    `top1_interval` and `answered`; and on how many videos "auto" is right with the changes alone (`with_alone`) and
    without them alone (`without_alone`), and `p`, the two-sided sign test of the two. None where the model's settings
    have no changes.

    Args:
        records: of `evaluate` on the data set at `token_budgets`, which hold "auto", with the changes.
        options: `records_dir`, `batch_size` and `num_workers` of `evaluate`.
    """
    settings = model.flux_settings.adaptive_budget
    if settings.get("changes") is None:
        return None
    model.flux_settings.adaptive_budget = {name: each for name, each in settings.items() if name != "changes"}
    try:
        report = evaluate(dataset, model, processor, [AUTO], **options)
    finally:
        model.flux_settings.adaptive_budget = settings
    right = {record["row"]: hit for record, hit in _hits(load_records(Path(options["records_dir"])), 0)}
    pairs = [(hit, right[record["row"]]) for record, hit in _hits(records, token_budgets.index(AUTO))]
    found = _sign_test_of(*zip(*pairs, strict=True), names=("with_alone", "without_alone"))
    return {name: report["budgets"][AUTO][name] for name in ("gmacs", "top1", "top1_interval", "answered")} | found


def with_auto_grid(processor: FluxVideoProcessor, grid: Grid) -> FluxVideoProcessor:
    """The processor with a grid for "auto" in its table; as it is where its own settings give all budgets one grid."""
    if processor.num_frames is not None or processor.size is not None:
        return processor
    return with_grids(processor, {AUTO: grid})


def write_calibration(checkpoint: str | Path, model: FluxModel, result: dict) -> None:
    """Put what [`calibrate`] found into the config.json of a checkpoint's folder and, the grid, into its processor.

    Raises:
        ValueError: the checkpoint is of a stock model, whose configuration has no place for it.
    """
    path = Path(checkpoint) / "config.json"
    saved = read_json(path)
    if saved.get("model_type") != model.config.model_type:
        raise ValueError(
            f"{path} is of a stock model ({saved.get('model_type')}), which keeps no token budgets: save the model "
            "with selection on first, flux_hf.enable_flux(model).save_pretrained(...)"
        )
    saved["adaptive_budget"] = result["adaptive_budget"]
    processor = with_auto_grid(load_video_processor(checkpoint, model), as_grid(result["grid"]))
    with whole_folder(checkpoint) as partial:
        write_processor(processor, partial, goes_with_code(checkpoint))
        write_text(partial / path.name, json.dumps(saved, indent=2, sort_keys=True) + "\n")


def answers_at_budgets(
    calibration: Dataset,
    model: FluxModel,
    processor: FluxVideoProcessor,
    token_budgets: list[int],
    grid: Grid,
    *,
    batch_size: int = 32,
    num_workers: int = 0,
    records_dir: str | Path | None = None,
) -> tuple[Answers, int]:
    """The answers for the readable videos of a labelled data set, one clip and crop, and how many are unreadable. The
    smallest budget is answered by "auto", which says how much changes.

    Args:
        token_budgets: at least two.
        grid: of all budgets.
        batch_size, num_workers, records_dir: as in `evaluate`.

    Raises:
        ValueError: there are fewer than two budgets, no video is readable, or a setting is not accepted.
    """
    budgets = tuple(sorted(set(token_budgets)))
    if len(budgets) < 2:
        raise ValueError(f"token_budgets must be at least two for objective adaptive, got {list(token_budgets)}")
    check_processor(processor, Views())
    settings = {
        "files": file_list_hash(calibration),
        "model": model_hash(model),
        "processor": processor.to_dict(),
        "budgets": list(budgets),
        "grid": list(grid),
        "changes": True,
    }
    folder, done = open_records(records_dir, settings)
    arms = [Arm(AUTO, grid, forward_auto), *(Arm(budget, grid) for budget in budgets[1:])]
    options = {"label_ids": model_labels(calibration, model), "batch_size": batch_size, "num_workers": num_workers}
    before = model.flux_settings.adaptive_budget
    model.flux_settings.adaptive_budget = AdaptiveBudget(budgets, (0.0,) * (len(budgets) - 1)).to_dict()
    try:
        records, _ = complete_records(
            list(range(len(calibration))),
            done,
            lambda rows: score_videos(calibration, rows, model, processor, arms, Views(), **options),
            folder,
            "calibration",
        )
    finally:
        model.flux_settings.adaptive_budget = before
    scored = [record for record in records if "reason" not in record]
    if not scored:
        raise ValueError("no video of the calibration split can be read")
    single = [view_gmacs(model, budget, grid) for budget in budgets]
    embedding = sum(single[:2]) - budgets_gmacs(model, budgets[:2], grid)
    answers = Answers(
        budgets,
        tuple(min(budget, clip_tokens(model, grid)) for budget in budgets),
        np.array([[r["arms"][place]["top"][0] == r["label"] for r in scored] for place in range(len(budgets))]),
        np.array([[r["arms"][place]["scores"][0] for r in scored] for place in range(len(budgets))]),
        np.array([r["arms"][0]["changes"] or [None] * (len(budgets) - 1) for r in scored], dtype=float).T,
        embedding,
        tuple(cost - embedding for cost in single),
    )
    return answers, len(records) - len(scored)


def choose_thresholds(answers: Answers, target: Target) -> tuple[AdaptiveBudget, dict]:
    """The settings for a target, and what they come to on these answers: `top1`, `lost` (share of the videos that only
    the largest budget gets right), `gmacs` (mean), `largest_top1`.

    Raises:
        ValueError: nothing keeps to the target; says what the least is.
    """
    best, least = None, np.inf
    for places in itertools.chain.from_iterable(
        itertools.combinations(range(len(answers.token_budgets)), steps) for steps in range(2, MOST_STEPS + 1)
    ):
        thresholds = [_quantiles(answers.confidence[place]) for place in places[:-1]]
        (top1, lost), gmacs = _outcomes(answers, places, thresholds)
        least = min(least, float(gmacs.min()))
        if target.unit == "points":
            allowed, order = 100 * lost <= target.value + 1e-9, (gmacs, -top1)
        else:
            allowed, order = gmacs <= target.value, (-top1, gmacs)
        for index in map(tuple, np.argwhere(allowed)):
            # Sums differ in their last digits by the order of their terms.
            rank = (*(round(float(each[index]), 9) for each in order), len(places))
            if best is None or rank < best[0]:
                confidences = tuple(float(each[i]) for each, i in zip(thresholds, index, strict=True))
                chosen = AdaptiveBudget(tuple(answers.token_budgets[place] for place in places), confidences)
                figures = {"top1": top1[index], "lost": lost[index], "gmacs": gmacs[index]}
                best = (rank, chosen, {name: float(figure) for name, figure in figures.items()})
    if best is None:
        raise ValueError(f"--target {target}: no thresholds keep to it; the least are {least:.3g} GMACs")
    return best[1], best[2] | {"largest_top1": float(answers.right[-1].mean())}


def with_changes(answers: Answers, chosen: AdaptiveBudget, unlike: Answers | None = None) -> AdaptiveBudget:
    """The settings with `changes`, four decimals each, chosen from the largest budget down: of all that lose no video
    of `answers` which is right without them those with the most right answers, counted with those for clips `unlike`
    the ones of the training, and of these the largest. None where that ends fewer than five ways to a larger budget."""
    changes = [None] * (len(chosen.confidences))
    for number in reversed(range(len(changes))):
        before = replace(chosen, changes=tuple(changes))
        there, goes_on, gains = _steps(answers, before, number)
        lost = goes_on & (gains < 0)
        most = math.floor(1e4 * (there[lost].min() if lost.any() else there[goes_on].max(initial=0.0))) / 1e4
        if unlike is not None:
            for_both = zip((there, goes_on, gains), _steps(unlike, before, number), strict=True)
            there, goes_on, gains = map(np.concatenate, for_both)
        limits = np.unique(np.append(np.floor(1e4 * there[goes_on & (there < most)]) / 1e4, most))
        _, ended, limit = max((*_ended_by(limit, there, goes_on, gains), limit) for limit in limits)
        if ended >= FEWEST_ENDED:
            changes[number] = float(limit)
    return chosen if changes == [None] * len(changes) else replace(chosen, changes=tuple(changes))


def _ended_by(limit: float, there: np.ndarray, goes_on: np.ndarray, gains: np.ndarray) -> tuple[int, int]:
    """Right answers that a limit gains, and how many ways to a larger budget it ends."""
    ended = goes_on & (there < limit)
    return int(gains[ended].sum()), int(ended.sum())


def _steps(answers: Answers, settings: AdaptiveBudget, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Video by video how much the tokens change that the budget after this one adds, whether the settings try it, and
    what it would gain to end before: 1 a right answer, -1 a wrong one for a right one, else 0."""
    places = [answers.token_budgets.index(budget) for budget in settings.token_budgets]
    right, ends, _ = _followed(answers, settings)
    there = _changes_between(answers, *places[number : number + 2])
    return there, (ends > number) & ~np.isnan(there), answers.right[places[number]].astype(int) - right


def figures_of(answers: Answers, settings: AdaptiveBudget) -> dict:
    """`top1`, `lost` and `gmacs` of [`choose_thresholds`] with these settings."""
    right, _, gmacs = _followed(answers, settings)
    lost = answers.right[-1] & ~right
    return {"top1": float(right.mean()), "lost": float(lost.mean()), "gmacs": float(gmacs.mean())}


def _followed(answers: Answers, settings: AdaptiveBudget) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Video by video whether the answer is right, the number of the budget in `settings` that gives it, and the
    GMACs."""
    places = [answers.token_budgets.index(budget) for budget in settings.token_budgets]
    videos = np.arange(answers.right.shape[1])
    ends = np.zeros(len(videos), int)
    gmacs = np.full(len(videos), answers.embedding_gmacs + answers.encoder_gmacs[places[0]])
    limits = settings.changes or (None,) * len(settings.confidences)
    for number, (confidence, least) in enumerate(zip(settings.confidences, limits, strict=True)):
        goes_on = (ends == number) & (answers.confidence[places[number]] < confidence)
        if least is not None:
            goes_on &= ~(_changes_between(answers, *places[number : number + 2]) < least)
        ends[goes_on] = number + 1
        gmacs[goes_on] += answers.encoder_gmacs[places[number + 1]]
    return answers.right[np.array(places)[ends], videos], ends, gmacs


def _changes_between(answers: Answers, place: int, later: int) -> np.ndarray:
    """`added_changes` from one budget to a later one, which adds what all up to it add."""
    score = np.full(answers.right.shape[1], float(answers.kept[place]))  # sum over the kept tokens, their mean being 1
    for step in range(place, later):
        added = answers.kept[step + 1] - answers.kept[step]
        score = score + (answers.changes[step] * score / answers.kept[step] * added if added else 0.0)
    added = answers.kept[later] - answers.kept[place]
    return (score - answers.kept[place]) / added if added else np.full_like(score, np.nan)


def _quantiles(confidence: np.ndarray) -> np.ndarray:
    """Thresholds between the confidences, from one that lets every answer stand on, four decimals each."""
    found = np.quantile(confidence, np.linspace(0, 1, QUANTILES))
    return np.unique(np.floor(1e4 * np.concatenate([[0.0], found])) / 1e4)


def _outcomes(
    answers: Answers, places: tuple[int, ...], thresholds: list[np.ndarray]
) -> tuple[list[np.ndarray], np.ndarray]:
    """Shares of right and of lost videos, and mean GMACs, of every choice of thresholds, one axis for each of `places`
    but the last."""
    first, *between, last = places
    counted = [answers.right, ~answers.right & answers.right[-1]]  # right, and right at the largest budget alone
    behind = [each[[last]].astype(float) for each in counted]
    cost = np.full_like(answers.confidence[[last]], answers.encoder_gmacs[last])
    for place in between:  # at most one
        stands = answers.confidence[place] >= thresholds[1][:, None]
        behind = [np.where(stands, each[place], later) for each, later in zip(counted, behind, strict=True)]
        cost = answers.encoder_gmacs[place] + np.where(stands, 0.0, cost)
    goes_on = (answers.confidence[first] < thresholds[0][:, None]).astype(float)
    shape, videos = tuple(map(len, thresholds)), goes_on.shape[1]
    shares = [
        (((1 - goes_on) @ each[first])[:, None] + goes_on @ later.T).reshape(shape) / videos
        for each, later in zip(counted, behind, strict=True)
    ]
    gmacs = answers.embedding_gmacs + answers.encoder_gmacs[first] + goes_on @ cost.T / videos
    return shares, gmacs.reshape(shape)


def comparison_with_largest(records: list[dict], token_budgets: list[int | str]) -> dict:
    """Of the records of `evaluate` at these budgets: on how many videos "auto" alone (`auto`) and the largest budget
    alone (`largest`) is right, and `p`, the two-sided sign test of the two."""
    auto, largest = token_budgets.index(AUTO), token_budgets.index(max(b for b in token_budgets if b != AUTO))
    hits = [[hit for _, hit in _hits(records, place)] for place in (auto, largest)]
    return _sign_test_of(*hits, names=("auto", "largest"))


def _hits(records: list[dict], place: int) -> list[tuple[dict, bool]]:
    """The records of readable videos, each with whether the arm at this place is right."""
    read = [record for record in records if "reason" not in record]
    return [(record, record["arms"][place]["top"][0] == record["label"]) for record in read]


def _sign_test_of(first, second, names: tuple[str, str]) -> dict:
    more, fewer = alone_right(first, second)
    p = min(1.0, 2 * sign_test(max(more, fewer), min(more, fewer)))
    return dict(zip(names, (more, fewer), strict=True)) | {"p": p}


def adaptive_table(result: dict) -> str:
    """The report: fixed budgets and "auto" on the videos that calibration did not see, and what was chosen."""
    tested, splits = result["test"], result["splits"]
    fixed = {budget: figures for budget, figures in tested["budgets"].items() if budget != AUTO}
    auto, largest = tested["budgets"][AUTO], tested["budgets"][max(fixed)]
    rows = [[budget, f"{each['gmacs']:.3f}", top1_in_percent(each)] for budget, each in tested["budgets"].items()]
    unseen = f"the other half of the {splits['test']} split" if splits["halves"] else f"the {splits['test']} split"
    chosen, paired = result["adaptive_budget"], result["paired"]
    budgets, confidences = chosen["token_budgets"], chosen["confidences"]
    changes = chosen.get("changes") or [None] * len(confidences)
    steps = ", ".join(
        f"from {budget} tokens to {larger} below {confidence:g}"
        + ("" if change is None else f", if what is added changes at least {change:g} as much as what is kept")
        for (budget, larger), confidence, change in zip(itertools.pairwise(budgets), confidences, changes, strict=True)
    )
    number = result["calibration"]["videos_unlike"]
    unlike = f" and {number} videos unlike those of the training" if number else ""
    return (
        f"{table(['tokens', 'mean GMACs', 'top-1 (95 % interval)'], rows, 'rrr')}\n\n"
        f"{tested['num_videos']} videos of {unseen}, which the calibration did not see. auto has "
        f"{auto['gmacs'] / largest['gmacs']:.2f} of the GMACs of {max(fixed)} tokens; it alone is right on "
        f"{paired['auto']} videos, {max(fixed)} tokens alone on {paired['largest']} (sign test: "
        f"p = {paired['p']:.2g}). Answered at: {answered_shares(auto)}.\n\n"
        f"Chosen for {result['target']} on {result['calibration']['videos']} videos of the {splits['calibration']} "
        f"split{unlike}: {steps}.\n{changes_gain(result)}"
    )


def changes_gain(result: dict) -> str:
    """What "auto" gains by looking at how much changes, of a result with `without_changes` and the `auto` or `test`
    figures; empty where it does not look at it."""
    without = result["without_changes"]
    if without is None:
        return ""
    return (
        f"\nWithout a look at what changes: {without['gmacs']:.3f} GMACs, {top1_in_percent(without)}; right with it "
        f"alone {without['with_alone']} videos, without it alone {without['without_alone']} "
        f"(sign test: p = {without['p']:.2g}).\n"
    )
