"""Which tokens of a clip are kept: one seam between scoring tokens and choosing among the scored.

The paper's rule (Table 2, "group-dynamic") splits the frames into contiguous groups and keeps, in every group, the
tokens that differ most from the same position one frame earlier. This module keeps exactly as many tokens as asked and
lets the earlier position win a tie; the official code keeps up to 4 fewer and leaves ties to the sort. The other rules
are those it is compared with.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class SelectionRule:
    """How tokens are selected.

    Attributes:
        choose: (scores, token_budget) -> bool mask (batch, frames * tokens per frame), True = kept, exactly
            `token_budget` in every row; scores are float32 (batch, frames, tokens per frame), larger = keep first,
            never NaN, and the budget is at least 1 and less than all tokens.
        score: patch embeddings before positions, (batch, frames, rows, columns, channels) -> scores. Default: the
            paper's importance, see [`token_importance`].
        nested: what is kept of the same scores at a smaller budget is part of what is kept at a larger one; then
            several budgets share work.
        random: draws from torch's generator of the device; evaluation then seeds it for every clip.
    """

    choose: Callable[[torch.Tensor, int], torch.Tensor]
    score: Callable[[torch.Tensor], torch.Tensor] | None = None
    nested: bool = False
    random: bool = False


def group_count(num_frames: int) -> int:
    """Number of contiguous frame groups: 4 when `num_frames` divides by 4 and exceeds 4, else 2 when it is even and
    exceeds 2, else 1."""
    if num_frames > 4 and num_frames % 4 == 0:
        return 4
    return 2 if num_frames > 2 and num_frames % 2 == 0 else 1


def token_importance(tokens: torch.Tensor, groups: int | None = None) -> torch.Tensor:
    """L2 distance of every token to the same position in the previous frame of its group.

    The first frame of a group copies the values of its second. A single frame has no motion: its tokens get the values
    of a low-discrepancy pattern, so that the best ones cover the image evenly, however many are kept.

    Args:
        tokens: patch embeddings before positions, (batch, frames, height, width, channels).
        groups: contiguous groups of frames, default `group_count(frames)`.

    Returns:
        float32 tensor (batch, frames, height * width), larger = keep first.
    """
    batch, frames, height, width, channels = tokens.shape
    if frames == 1:
        return _even_cover(height, width, tokens.device).expand(batch, 1, -1)
    grouped = tokens.detach().float().reshape(batch, groups or group_count(frames), -1, height * width, channels)
    change = _numbers(torch.linalg.vector_norm(grouped[:, :, 1:] - grouped[:, :, :-1], dim=-1))
    return torch.cat([change[:, :, :1], change], dim=2).reshape(batch, frames, height * width)


def select_tokens(importance: torch.Tensor, token_budget: int, groups: int | None = None) -> torch.Tensor:
    """Choose exactly `token_budget` tokens, shared evenly among the groups (the first `budget % groups` groups take one
    more).

    Args:
        importance: (batch, frames, tokens per frame), see [`token_importance`]; no NaN.
        token_budget: tokens to keep, at least 1 and less than frames * tokens per frame.
        groups: contiguous groups of frames, default `group_count(frames)`.

    Returns:
        bool tensor (batch, frames * tokens per frame), True = kept.
    """
    batch, frames, _ = importance.shape
    groups = groups or group_count(frames)
    scores = importance.reshape(batch, groups, -1)
    base, extra = token_budget // groups, token_budget % groups  # not divmod, which torch.compile cannot trace
    # Counted on the device: a list copied there would wait for it.
    counts = (base + (torch.arange(groups, device=scores.device) < extra).long()).view(1, groups, 1)

    best = scores.topk(base + (extra > 0), dim=-1).values
    threshold = best.gather(-1, (counts - 1).clamp(min=0).expand(batch, -1, -1))
    above = scores > threshold
    tied = scores == threshold
    room = counts - above.sum(-1, keepdim=True)
    return (above | (tied & (tied.cumsum(-1) <= room))).reshape(batch, -1)


def kept_positions(keep_mask: torch.Tensor, num_kept: int) -> torch.Tensor:
    """Positions of the kept tokens in their original order, (batch, num_kept), of a (batch, tokens) mask that keeps
    `num_kept` in every row."""
    tokens = keep_mask.shape[1]
    order = torch.arange(tokens, 0, -1, device=keep_mask.device)
    return tokens - (keep_mask * order).topk(num_kept, dim=1).values


def take_tokens(tokens: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """(batch, tokens, channels) at `positions` (batch, kept), whole rows at a time: (batch, kept, channels)"""
    batch, count, _ = tokens.shape
    rows = positions + count * torch.arange(batch, device=positions.device)[:, None]
    return tokens.flatten(0, 1).index_select(0, rows.flatten()).unflatten(0, (batch, -1))


def _numbers(scores: torch.Tensor) -> torch.Tensor:
    """The scores with infinity for NaN: such tokens are kept first, so that the answer is no number either."""
    return torch.where(scores.isnan(), torch.inf, scores)


def _among_all_frames(scores: torch.Tensor, token_budget: int) -> torch.Tensor:
    return select_tokens(scores, token_budget, groups=1)


def _change_in_all_frames(tokens: torch.Tensor) -> torch.Tensor:
    return token_importance(tokens, groups=1)


def _in_all_frames(scores: torch.Tensor, token_budget: int) -> torch.Tensor:
    """As many tokens in every frame (one more in the first `budget % frames`)."""
    return select_tokens(scores, token_budget, groups=scores.shape[1])


def _random(tokens: torch.Tensor) -> torch.Tensor:
    batch, frames, height, width, _ = tokens.shape
    return torch.rand(batch, frames, height * width, device=tokens.device)


def _random_places(tokens: torch.Tensor) -> torch.Tensor:
    return _random(tokens[:, :1]).expand(-1, tokens.shape[1], -1)


def _even(tokens: torch.Tensor) -> torch.Tensor:
    batch, frames, height, width, _ = tokens.shape
    return _even_cover(height, width, tokens.device).expand(batch, frames, -1)


def _even_cover(height: int, width: int, device: torch.device) -> torch.Tensor:
    """Values in (-1, 0] of a two-dimensional additive recurrence (steps 1/p and 1/p^2 of the plastic number p): the
    positions above any threshold are spread evenly over the image. (1, 1, height * width), float32."""
    plastic = 1.32471795724474602596
    rows = torch.arange(height, device=device, dtype=torch.float32) / plastic
    columns = torch.arange(width, device=device, dtype=torch.float32) / plastic**2
    return -torch.frac(rows[:, None] + columns[None, :]).reshape(1, 1, height * width)


GROUP_DYNAMIC = "group_dynamic"

_RULES = {
    GROUP_DYNAMIC: SelectionRule(select_tokens, nested=True),
    "dynamic": SelectionRule(_among_all_frames, _change_in_all_frames, nested=True),
    "random": SelectionRule(_among_all_frames, _random, nested=True, random=True),
    "tube": SelectionRule(_in_all_frames, _random_places, nested=True, random=True),
    "uniform": SelectionRule(_in_all_frames, _even, nested=True),
}
_SHIPPED = dict(_RULES)
LONGEST_NAME = 500


def selection_rules() -> list[str]:
    """Names of the rules: the paper's, "group_dynamic"; the same without groups, "dynamic"; "random" tokens; "tube",
    random places, the same in all frames; "uniform", places that cover the image evenly, in all frames; and those of
    `register_selection_rule`. Random ones draw from torch's generator of the device."""
    return list(_RULES)


def register_selection_rule(name: str, rule: SelectionRule | Callable[[torch.Tensor, int], torch.Tensor]) -> None:
    """Make a rule known by a name, which a configuration can hold. A name of your own that is registered again stands
    for the new rule.

    Args:
        name: any but those of the rules that are shipped.
        rule: a [`SelectionRule`], or its `choose` alone.

    Raises:
        ValueError: the name is that of a shipped rule, empty or longer than 500 characters; `rule` is none.
    """
    check_selection_name(name)
    rule = selection_rule(rule)
    if _SHIPPED.get(name, rule) != rule:
        raise ValueError(f"the selection rule {name!r} is shipped with flux_hf and cannot be replaced")
    _RULES[name] = rule


def check_selection_name(name: str) -> None:
    """Raises ValueError unless a rule can have the name, whether or not one has it."""
    if not isinstance(name, str) or not 1 <= len(name) <= LONGEST_NAME:
        raise ValueError(
            f"must be the name of a selection rule, a string of 1 to {LONGEST_NAME} characters, got {str(name)[:40]!r}"
        )


def selection_rule(rule: "str | SelectionRule | Callable") -> SelectionRule:
    """The rule of a name, or a rule made of a function (scores, token_budget) -> mask, see [`SelectionRule`].

    Raises:
        ValueError: no rule has the name, or `rule` is nothing of this kind.
    """
    if isinstance(rule, SelectionRule):
        return rule
    if isinstance(rule, str):
        if rule in _RULES:
            return _RULES[rule]
        raise ValueError(
            f"token_selection: no selection rule is called {rule!r}; known are {', '.join(_RULES)}. A rule of your own "
            f"needs flux_hf.register_selection_rule({rule!r}, rule) before the model is loaded; "
            f"from_pretrained(..., token_selection={GROUP_DYNAMIC!r}) loads with another"
        )
    if callable(rule):
        return SelectionRule(rule)
    raise ValueError(
        f"token_selection must be one of {', '.join(_RULES)}, a function (scores, token_budget) -> mask or a "
        f"SelectionRule, got {rule!r}"
    )


def selection_name(rule: "str | SelectionRule | Callable") -> str:
    """What the rule is called: the name that it is registered by, else where its functions are defined: of a `choose`
    alone "module.choose", with a `score` "module.choose(module.score)"."""
    if isinstance(rule, str):
        return rule
    rule = selection_rule(rule)
    for name, known in _RULES.items():
        if known == rule:
            return name
    return _home(rule.choose) + (f"({_home(rule.score)})" if rule.score else "")


def _home(function: Callable) -> str:
    return f"{function.__module__}.{getattr(function, '__qualname__', type(function).__qualname__)}"


def keep_masks_at(
    tokens: torch.Tensor, counts: Sequence[int], rule: "str | SelectionRule | Callable" = GROUP_DYNAMIC
) -> list[torch.Tensor | None]:
    """What `rule` keeps of the tokens at each of the counts, which score the tokens once.

    Args:
        tokens: patch embeddings before positions, (batch, frames, rows, columns, channels).
        counts: tokens to keep, descending, at most all of them.

    Returns:
        For every count a bool mask (batch, frames * rows * columns), True = kept; None where it is all of them.

    Raises:
        ValueError: the rule is none, or gives something else than such scores and masks. How many tokens a mask keeps
            is looked at for rules that are not shipped, and not where a graph is compiled or captured.
    """
    rule = selection_rule(rule)
    batch, frames, rows, columns, _ = tokens.shape
    total = frames * rows * columns
    if counts[-1] == total:
        return [None for _ in counts]
    scores = (rule.score or token_importance)(tokens.detach()).detach()
    if scores.shape != (batch, frames, rows * columns):
        raise ValueError(
            f"a selection rule must give scores of shape {(batch, frames, rows * columns)} (batch, frames, tokens per "
            f"frame), got {tuple(scores.shape)}"
        )
    scores = _numbers(scores.float()) if rule.score else scores
    masks = [rule.choose(scores, count) if count < total else None for count in counts]
    for mask, count in zip(masks, counts, strict=True):
        if mask is not None:
            _check_mask(mask, (batch, total), None if any(rule is one for one in _SHIPPED.values()) else count)
    return masks


def _check_mask(mask: torch.Tensor, shape: tuple[int, int], count: int | None) -> None:
    if mask.dtype != torch.bool or mask.shape != shape:
        raise ValueError(
            f"a selection rule must give a bool mask of shape {shape}, got {mask.dtype} {tuple(mask.shape)}"
        )
    if count is None or torch.compiler.is_compiling() or mask.is_cuda and torch.cuda.is_current_stream_capturing():
        return  # to look at numbers takes a synchronisation
    kept = mask.sum(1)
    if (kept != count).any():
        raise ValueError(f"a selection rule must keep {count} tokens in every row, got {kept.tolist()}")


__all__ = [
    "SelectionRule",
    "check_selection_name",
    "group_count",
    "keep_masks_at",
    "kept_positions",
    "register_selection_rule",
    "select_tokens",
    "selection_name",
    "selection_rule",
    "selection_rules",
    "take_tokens",
    "token_importance",
]
