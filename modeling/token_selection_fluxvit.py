"""The group-dynamic token selector: which tokens of a clip change most.

The paper (Table 2) splits the frames into contiguous groups and keeps, in every group, the tokens that differ most from
the same position one frame earlier. This module keeps exactly as many tokens as asked and lets the earlier position win
a tie; the official code keeps up to 4 fewer and leaves ties to the sort.
"""

import torch


def group_count(num_frames: int) -> int:
    """Number of contiguous frame groups: 4 when `num_frames` divides by 4 and exceeds 4, else 2 when it is even and
    exceeds 2, else 1."""
    if num_frames > 4 and num_frames % 4 == 0:
        return 4
    return 2 if num_frames > 2 and num_frames % 2 == 0 else 1


def token_importance(tokens: torch.Tensor) -> torch.Tensor:
    """L2 distance of every token to the same position in the previous frame of its group.

    The first frame of a group copies the values of its second. A single frame has no motion: its tokens get the values
    of a low-discrepancy pattern, so that the best ones cover the image evenly, however many are kept.

    Args:
        tokens: patch embeddings before positions, (batch, frames, height, width, channels).

    Returns:
        float32 tensor (batch, frames, height * width), larger = keep first.
    """
    batch, frames, height, width, channels = tokens.shape
    if frames == 1:
        return _even_cover(height, width, tokens.device).expand(batch, 1, -1)
    grouped = tokens.detach().float().reshape(batch, group_count(frames), -1, height * width, channels)
    change = torch.linalg.vector_norm(grouped[:, :, 1:] - grouped[:, :, :-1], dim=-1)
    change = torch.where(change.isnan(), torch.inf, change)  # kept first, so that the answer is no number either
    return torch.cat([change[:, :, :1], change], dim=2).reshape(batch, frames, height * width)


def select_tokens(importance: torch.Tensor, token_budget: int) -> torch.Tensor:
    """Choose exactly `token_budget` tokens, shared evenly among the groups (the first `budget % groups` groups take one
    more).

    Args:
        importance: (batch, frames, tokens per frame), see [`token_importance`].
        token_budget: tokens to keep, at least 1 and less than frames * tokens per frame.

    Returns:
        bool tensor (batch, frames * tokens per frame), True = kept.
    """
    batch, frames, _ = importance.shape
    groups = group_count(frames)
    scores = importance.reshape(batch, groups, -1)
    base, extra = divmod(token_budget, groups)
    # Counted on the device: a list copied there would wait for it.
    counts = (base + (torch.arange(groups, device=scores.device) < extra)).view(1, groups, 1)

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


def _even_cover(height: int, width: int, device: torch.device) -> torch.Tensor:
    """Values in (-1, 0] of a two-dimensional additive recurrence (steps 1/p and 1/p^2 of the plastic number p): the
    positions above any threshold are spread evenly over the image. (1, 1, height * width), float32."""
    plastic = 1.32471795724474602596
    rows = torch.arange(height, device=device, dtype=torch.float32) / plastic
    columns = torch.arange(width, device=device, dtype=torch.float32) / plastic**2
    return -torch.frac(rows[:, None] + columns[None, :]).reshape(1, 1, height * width)


__all__ = ["group_count", "kept_positions", "select_tokens", "token_importance"]
