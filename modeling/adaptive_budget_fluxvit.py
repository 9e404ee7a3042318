"""`token_budget="auto"`: every clip is answered at the smallest budget that is sure enough of its answer.

A classifier answers all clips at the smallest of some budgets. Where its best class is less probable than a threshold
it answers again at the next one, and so on, but not where the tokens that the next one adds hardly change: they would
be noise. Patches are embedded and scored once. The thresholds belong to weights and budgets: heads that learnt
differently are not sure in the same way. `flux-hf optimize-tokens --objective adaptive` chooses them on labelled clips.
"""

import itertools
import math
import reprlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from .token_selection_fluxvit import SelectionRule, selection_rule

AUTO = "auto"
"""What `token_budget` is called where every clip gets a budget of its own."""

MOST_BUDGETS = 32
MOST_TOKENS = 2**20


@dataclass(frozen=True)
class AdaptiveBudget:
    """How a budget is found for every clip.

    Attributes:
        token_budgets: budgets to answer at, one after another, ascending.
        confidences: for each of them but the last how probable its best class must be, from 0 to 1, for its answer to
            stand.
        changes: for each of them but the last how much the tokens that the next one adds must change for a larger
            budget to be tried, see [`added_changes`]; None where that does not count. Default: nowhere.
    """

    token_budgets: tuple[int, ...]
    confidences: tuple[float, ...]
    changes: tuple[float | None, ...] | None = None

    def to_dict(self) -> dict[str, list]:
        """What `config.adaptive_budget` holds of it."""
        changes = {} if self.changes is None else {"changes": list(self.changes)}
        return {"token_budgets": list(self.token_budgets), "confidences": list(self.confidences)} | changes


def adaptive_budget(settings: dict) -> AdaptiveBudget:
    """What `config.adaptive_budget` says: a dictionary with the names of [`AdaptiveBudget`], `changes` optional.

    Raises:
        ValueError: it is none, or holds something else than 2 to 32 ascending budgets with a confidence from 0 to 1
            and, where there are changes, a number of at least 0 or None for each but the last.
    """
    names = ("token_budgets", "confidences")
    if not isinstance(settings, dict) or set(settings) - {"changes"} != set(names):
        raise ValueError(f"must be a dictionary of {' and '.join(names)}, got {reprlib.repr(settings)}")
    changes = settings.get("changes")
    for name in (*names, "changes") if changes is not None else names:
        if not isinstance(settings[name], (list, tuple)) or len(settings[name]) > MOST_BUDGETS:
            raise ValueError(f"{name} must be a list of at most {MOST_BUDGETS}, got {reprlib.repr(settings[name])}")
    budgets, confidences = (tuple(settings[name]) for name in names)
    if not all(type(budget) is int and 1 <= budget <= MOST_TOKENS for budget in budgets):
        raise ValueError(f"token_budgets must be integers from 1 to {MOST_TOKENS}, got {reprlib.repr(budgets)}")
    if len(budgets) < 2 or any(smaller >= larger for smaller, larger in itertools.pairwise(budgets)):
        raise ValueError(f"token_budgets must be at least two, ascending, got {reprlib.repr(budgets)}")
    for name, given in (("confidences", confidences), ("changes", changes)):
        if given is not None and len(given) != len(budgets) - 1:
            raise ValueError(
                f"{name} must be {len(budgets) - 1}, one for each of token_budgets but the last, got {len(given)}"
            )
    for confidence in confidences:
        if not _is_number(confidence) or not 0 <= confidence <= 1:
            raise ValueError(f"confidences must be numbers from 0 to 1, got {reprlib.repr(confidence)}")
    for change in changes or ():
        if change is not None and (not _is_number(change) or change < 0):
            raise ValueError(f"changes must be numbers of at least 0, or None, got {reprlib.repr(change)}")
    limits = None if changes is None else tuple(None if change is None else float(change) for change in changes)
    return AdaptiveBudget(budgets, tuple(map(float, confidences)), limits)


def _is_number(value) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def check_adaptive_budget(settings: dict | None) -> None:
    """Raises ValueError unless a configuration can hold these settings; None is not calibrated."""
    if settings is not None:
        adaptive_budget(settings)


def settings_of_call(model, batch: int, num_views: int, **excluded) -> AdaptiveBudget:
    """The settings for a call of a [`FluxModel`] with `token_budget="auto"`.

    Args:
        batch: rows of the call.
        num_views: as many rows after one another are views of one video.
        excluded: arguments of the call that "auto" leaves no room for, None where they are not given.

    Raises:
        ValueError: the model is not calibrated, in training mode or no classifier of one label a clip; the call has
            such arguments; the rows do not make whole videos; or the call is compiled or exported.
    """
    if torch.compiler.is_compiling():
        raise ValueError('token_budget="auto" depends on the answers and cannot be compiled or exported: give a number')
    if given := [name for name, value in excluded.items() if value is not None and value is not False]:
        raise ValueError(f'token_budget="auto" excludes {", ".join(given)}')
    if model.training:
        raise ValueError('token_budget="auto" is for inference: call model.eval(), or give a number of tokens')
    problem = getattr(model.flux_settings, "problem_type", None)
    if problem not in (None, "single_label_classification"):
        raise ValueError(f'token_budget="auto" needs one label a clip, the model has problem_type {problem}')
    if model.flux_settings.adaptive_budget is None:
        raise ValueError(
            'token_budget="auto": the model is not calibrated for it (config.adaptive_budget is None). '
            "flux-hf optimize-tokens --objective adaptive does that; or give a number of tokens"
        )
    if type(num_views) is not int or num_views < 1 or batch % num_views:
        raise ValueError(f"num_views must be an integer >= 1 that divides the batch of {batch}, got {num_views!r}")
    return adaptive_budget(model.flux_settings.adaptive_budget)


def listened(rule: str | SelectionRule | Callable) -> tuple[SelectionRule, list[torch.Tensor]]:
    """The rule, and a list with the scores that it chose by last, (batch, frames, tokens per frame); empty before it
    chose."""
    rule, heard = selection_rule(rule), []

    def choose(scores: torch.Tensor, token_budget: int) -> torch.Tensor:
        heard[:] = [scores]
        return rule.choose(scores, token_budget)

    return replace(rule, choose=choose), heard


def added_changes(scores: torch.Tensor, masks: list[torch.Tensor | None]) -> torch.Tensor:
    """How much the tokens change that a larger budget adds, as a share of what the kept ones do.

    Args:
        scores: those that the tokens were selected by, (batch, frames, tokens per frame): with the paper's rule how far
            the embedding of a token is from that one frame earlier.
        masks: of ascending budgets what is kept, bool (batch, frames * tokens per frame); None: all.

    Returns:
        For every budget but the last the mean score of the tokens that the next one adds, divided by the mean score of
        those that it keeps, float32 (batch, budgets - 1): 0 where only what is kept changes, or nothing; 1 where both
        change alike. NaN where the next budget adds nothing. A row does not depend on the others.
    """
    scores = scores.flatten(1)
    found = []
    for kept, more in itertools.pairwise(masks):
        if kept is None:
            found.append(torch.full_like(scores[:, 0], torch.nan))
            continue
        before, added = (_mean_where(mask, scores) for mask in (kept, ~kept if more is None else more & ~kept))
        found.append(torch.where((before == 0) & (added == 0), added, added / before))
    return torch.stack(found, dim=1)


def _mean_where(mask: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    return torch.where(mask, scores, 0.0).sum(1) / mask.sum(1)


def sure_answers(
    settings: AdaptiveBudget,
    masks: list[torch.Tensor | None],
    scores: torch.Tensor | None,
    answer: Callable[[int, torch.Tensor | None], tuple[torch.Tensor, torch.Tensor]],
    num_views: int = 1,
) -> dict[str, torch.Tensor | None]:
    """For every row the first answer that is sure enough, or whose next budget would add what hardly changes, or that
    of the last budget.

    Args:
        masks: for each budget what it keeps of every row (None: all); none beyond the first that keeps all answers.
        scores: what the tokens were selected by, see [`added_changes`]; None where every budget keeps all.
        answer: (number of the budget, rows) -> logits and pooled features of these rows; rows None: all.
        num_views: as many rows after one another are views of one video. They get the same budget, by the mean of
            their probabilities and of their changes.

    Returns:
        `logits`, `pooler_output`, `keep_mask`, `answered_budgets` and `changes` of a [`FluxViTClassifierOutput`].
    """
    logits, pooled = (found.clone() for found in answer(0, None))
    places = torch.zeros(len(logits), dtype=torch.long, device=logits.device)
    last = next((place for place, mask in enumerate(masks) if mask is None), len(masks) - 1)
    changes = None if scores is None else added_changes(scores, masks)
    limits = settings.changes or (None,) * len(settings.confidences)
    for place, (confidence, least) in enumerate(zip(settings.confidences[:last], limits, strict=False)):
        stands = logits.float().softmax(-1).unflatten(0, (-1, num_views)).mean(1).amax(-1) >= confidence
        if least is not None:
            stands |= changes[:, place].unflatten(0, (-1, num_views)).mean(1) < least
        rows = (~stands.repeat_interleave(num_views) & (places == place)).nonzero()[:, 0]
        if not len(rows):
            break
        logits[rows], pooled[rows] = answer(place + 1, None if len(rows) == len(logits) else rows)
        places[rows] = place + 1
    budgets = torch.tensor(settings.token_budgets, device=places.device)
    return {
        "logits": logits,
        "pooler_output": pooled,
        "keep_mask": _masks_of(places, masks),
        "answered_budgets": budgets[places],
        "changes": changes,
    }


def _masks_of(places: torch.Tensor, masks: list[torch.Tensor | None]) -> torch.Tensor | None:
    """Row by row the mask of the budget that answered; None where every row kept all tokens."""
    if masks[0] is None:
        return None
    found = masks[0].clone()
    for place, mask in enumerate(masks[1:], 1):
        rows = places == place
        found[rows] = True if mask is None else mask[rows]
    return found


__all__ = [
    "AUTO",
    "AdaptiveBudget",
    "adaptive_budget",
    "added_changes",
    "check_adaptive_budget",
    "listened",
    "settings_of_call",
    "sure_answers",
]
