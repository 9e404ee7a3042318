"""The losses of a dual encoder, over the batches of all processes at once.

Symmetric cross-entropy (CLIP) with soft targets where two rows show the same thing, as InternVideo2's and UMT's
contrastive loss has them, and the pairwise sigmoid loss of SigLIP (arXiv 2303.15343).
"""

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import nn


class ClampWithReturn(torch.autograd.Function):
    """`x` clamped to at most `most`. Where it is above, only a gradient that leads back passes."""

    @staticmethod
    def forward(x: torch.Tensor, most: float) -> torch.Tensor:
        return x.clamp(max=most)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        ctx.save_for_backward(inputs[0])
        ctx.most = inputs[1]

    @staticmethod
    def backward(ctx, gradient: torch.Tensor):
        (x,) = ctx.saved_tensors
        return gradient.masked_fill((x >= ctx.most) & (gradient < 0), 0), None


class GatherRows(torch.autograd.Function):
    """Rows of all processes, the same number from each, in the order of the ranks. The gradient of a row is the sum of
    those that all processes have for it."""

    @staticmethod
    def forward(ctx, rows: torch.Tensor) -> torch.Tensor:
        gathered = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(gathered, rows.contiguous())
        return torch.cat(gathered)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> torch.Tensor:
        gradient = gradient.contiguous().clone()
        dist.all_reduce(gradient)
        return gradient.chunk(dist.get_world_size())[dist.get_rank()]


def contrastive_losses(
    video_embeds: Sequence[torch.Tensor],
    text_embeds: torch.Tensor,
    logit_scale: torch.Tensor,
    logit_bias: torch.Tensor | None = None,
    labels: torch.Tensor | None = None,
    *,
    gather: bool = False,
) -> list[torch.Tensor]:
    """Losses of pairs, row i of videos beside row i of texts, one for each of `video_embeds`; float32 scalars, means
    over the pairs.

    With a bias it is the sigmoid loss, without the symmetric cross-entropy.

    Args:
        video_embeds: the same videos at several budgets, each unit vectors (pairs, projection_dim).
        text_embeds: unit vectors (pairs, projection_dim).
        logit_scale, logit_bias: one number each, the factor itself and not its logarithm.
        labels: integers (pairs,). Rows of the same number show the same thing: with softmax they share the probability,
            with sigmoid all their pairs are positive. Default: no two rows do.
        gather: compare with the rows of all processes of `torch.distributed`, which must have the same number of rows
            and all call this. Each has the loss of its own rows; the mean of loss and gradients over the processes, as
            DistributedDataParallel takes it, is that of one process with all rows.

    Raises:
        ValueError: the numbers of videos, texts and labels differ, here or between processes.
    """
    for videos in video_embeds:
        _check_pairs(videos, text_embeds, labels)
    pairs = len(text_embeds)
    rows = torch.stack([text_embeds.float(), *(videos.float() for videos in video_embeds)])
    if labels is None:
        labels = torch.arange(pairs, device=rows.device)
        if gather:
            labels = labels + pairs * dist.get_rank()
    all_rows, all_labels = rows, labels
    if gather:
        _check_processes(pairs, rows.device)
        all_rows = GatherRows.apply(rows.transpose(0, 1)).transpose(0, 1)
        all_labels = GatherRows.apply(labels)
    same = labels[:, None] == all_labels[None, :]
    return [
        _loss_of_one(rows[0], videos, all_rows[0], all_videos, same, logit_scale, logit_bias)
        for videos, all_videos in zip(rows[1:], all_rows[1:], strict=True)
    ]


def _loss_of_one(texts, videos, all_texts, all_videos, same, logit_scale, logit_bias) -> torch.Tensor:
    per_video = similarity(videos, all_texts, logit_scale, logit_bias)
    if logit_bias is not None:
        signs = same.to(per_video.dtype) * 2 - 1
        return -nn.functional.logsigmoid(signs * per_video).sum() / len(videos)
    per_text = similarity(texts, all_videos, logit_scale)
    targets = same / same.sum(1, keepdim=True)
    return (nn.functional.cross_entropy(per_video, targets) + nn.functional.cross_entropy(per_text, targets)) / 2


def similarity(
    rows: torch.Tensor, columns: torch.Tensor, logit_scale: torch.Tensor, logit_bias: torch.Tensor | None = None
) -> torch.Tensor:
    """Raw logits (rows, columns) of unit vectors, float32."""
    logits = rows.float() @ columns.float().T * logit_scale
    return logits if logit_bias is None else logits + logit_bias


def alignment_loss_of(aligned: torch.Tensor, largest: torch.Tensor) -> torch.Tensor:
    """SmoothL1 distance of the unit vectors `aligned` (batch, width) of a smaller budget to the feature of the largest
    one, normalised and without gradient, as in Flux fine-tuning."""
    target = nn.functional.normalize(largest.detach().float(), dim=-1)
    return nn.functional.smooth_l1_loss(aligned.float(), target)


def _check_pairs(videos: torch.Tensor, texts: torch.Tensor, labels: torch.Tensor | None) -> None:
    if len(videos) != len(texts):
        raise ValueError(f"a loss needs one text per video, got {len(videos)} videos and {len(texts)} texts")
    if labels is not None and labels.shape != videos.shape[:1]:
        raise ValueError(f"labels must be {len(videos)} integers, one per pair, got the shape {tuple(labels.shape)}")


def _check_processes(pairs: int, device: torch.device) -> None:
    most = torch.tensor([pairs, -pairs], device=device)
    dist.all_reduce(most, op=dist.ReduceOp.MAX)
    if most.sum():
        raise ValueError(f"every process must have the same number of pairs, they have {-most[1]} to {most[0]}")


__all__ = ["ClampWithReturn", "alignment_loss_of", "contrastive_losses", "similarity"]
