"""Optical flow as a teacher: what moves where, without weights. Needs OpenCV (extra flow)."""

from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import numpy as np
import torch
from torch import nn

from flux_hf.modeling.token_selection_fluxvit import kept_positions, take_tokens
from flux_hf.pretraining.teacher import Teacher, times_of

CELLS = 4
"""Cells of a patch along a side: the motion of a token is a distribution over them."""

SPACING = 0.6
CENTRES = tuple(SPACING * step for step in range(-4, 5))
"""Middles of the bumps that encode a motion along an axis, in asinh(pixels a frame); their sigma is `SPACING`."""

FASTEST = CENTRES[-1] + SPACING
"""In asinh(pixels a frame): 10 pixels. What is faster counts as this fast, else its bumps would vanish."""

STILL = 1e-3
"""Pixels a frame, added to each speed where motions are weighted, so that without motion all places count alike."""

SLOW = 0.1
"""Pixels a frame, added to each speed in the saliency: a still token is drawn too, but seldom."""


class OpticalFlowTeacher(Teacher):
    """Dense optical flow between successive frames of the student's input: OpenCV's DIS, preset FAST, on grey frames of
    their own size, 48 pixels at least: in smaller ones it finds little. It has one layer and no weights, and computes
    on the CPU wherever the student is.

    A token's motion is the mean flow over the pairs of frames whose first frame it covers. The last frame of a clip
    begins no pair: a token of that frame alone repeats the pair before, one of more frames does without. A clip of one
    frame has no motion.

    The token is a unit vector of 81: the motion in 4 x 4 cells of the patch, each as 9 bumps of asinh(pixels) to the
    right times 9 down, in the mean over the cells, so that a boundary shows both of its motions. The pooled feature is
    a unit vector of 4 x 81: the mean token, weighted by speed, above left, above right, below left and below right of
    the middle of what moves. Saliency is log(speed + 0.1), in pixels a frame."""

    depth, width, pooled_width = 1, len(CENTRES) ** 2, 4 * len(CENTRES) ** 2

    def __init__(self, image_mean: list[float], image_std: list[float], patch_size: int):
        super().__init__((image_mean, image_std, [0.0] * 3, [1.0] * 3), patch_size)

    def source(self) -> str:
        return f"OpenCV {cv2.__version__} DIS FAST from 91 {CELLS} {CENTRES} {FASTEST} {STILL} {SLOW}"

    def look(self, pixels, seen, layers, patch_grid):
        cells = clip_flows(grey_frames(pixels), patch_grid)
        motion = token_motions(cells, times_of(seen, patch_grid))
        with torch.autocast("cpu", enabled=False):
            codes, speed = motion_codes(motion), motion.norm(dim=-1).mean(-1)
            pooled = quadrant_codes(codes, speed)
        positions = kept_positions(seen, int(seen[0].sum())).cpu()
        found = take_tokens(codes.flatten(1, 3), positions).to(pixels.device)
        saliency = (speed.flatten(1).gather(1, positions) + SLOW).log()
        return [found] * len(layers), pooled.to(pixels.device), saliency.to(pixels.device)


def grey_frames(pixels: torch.Tensor) -> np.ndarray:
    """(batch, frames, 3, height, width), RGB from 0 to 1 -> uint8 (batch, frames, height, width)."""
    clips = []
    for red, green, blue in (clip.unbind(1) for clip in pixels):  # one by one they stay in the cache of the processor
        grey = (76.245 * red).add_(green, alpha=149.685).add_(blue, alpha=29.07)
        clips.append(grey.round_().clamp_(0, 255).byte())
    return torch.stack(clips).cpu().numpy()


def clip_flows(grey: np.ndarray, patch_grid: tuple[int, int]) -> torch.Tensor:
    """The mean flow of each cell between successive frames of uint8 (batch, frames, height, width): pixels to the right
    and down, float32 (batch, frames - 1, rows * CELLS, columns * CELLS, 2)."""
    batch, frames = grey.shape[:2]
    rows, columns = (CELLS * side for side in patch_grid)
    found = np.empty((batch, frames - 1, rows, columns, 2), np.float32)
    with _one_thread():
        flow_of = flow_method(*grey.shape[2:])
        for clip, flows in zip(grey, found, strict=True):
            for number in range(frames - 1):
                flow = flow_of.calc(clip[number], clip[number + 1], None)
                flows[number] = cv2.resize(flow, (columns, rows), interpolation=cv2.INTER_AREA)
    return torch.from_numpy(found)


def flow_method(height: int, width: int) -> "cv2.DISOpticalFlow":
    """DIS, preset FAST, for pictures of a size. For those that do not have the preset's scales OpenCV would go to full
    size by itself, which takes some times as long as a larger picture: they get the next finer scale."""
    method = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    if max(height, width) < 91 or min(height, width) < 32:
        method.setFinestScale(1)
    return method


def token_motions(flows: torch.Tensor, times: int) -> torch.Tensor:
    """(batch, frames - 1, rows * CELLS, columns * CELLS, 2) -> (batch, times, rows, columns, CELLS^2, 2), where a token
    covers frames // times frames."""
    batch, pairs, height, width, _ = flows.shape
    tube = (pairs + 1) // times
    if pairs == 0:
        flows = flows.new_zeros(batch, 1, height, width, 2)
    else:
        # In the place of the pair that the last frame lacks: the mean of its tube's others, or the pair before.
        last = flows[:, -max(tube - 1, 1) :].mean(1, keepdim=True)
        flows = torch.cat([flows, last], dim=1)
    motion = flows.unflatten(1, (times, tube)).mean(2)
    motion = motion.unflatten(3, (-1, CELLS)).unflatten(2, (-1, CELLS))
    return motion.transpose(3, 4).flatten(4, 5)


def motion_codes(motion: torch.Tensor) -> torch.Tensor:
    """Pixels a frame (..., cells, 2) -> unit vectors (..., 81), the steps of the motion down within those of the motion
    to the right."""
    place = motion.asinh().clamp(-FASTEST, FASTEST)[..., None]
    bumps = (((place - place.new_tensor(CENTRES)) / SPACING).square() * -0.5).exp()
    right, down = bumps.unbind(-2)
    codes = torch.einsum("...cr,...cd->...rd", right, down).flatten(-2)
    return nn.functional.normalize(codes, dim=-1)


def quadrant_codes(codes: torch.Tensor, speed: torch.Tensor) -> torch.Tensor:
    """The mean codes of the four quadrants around the middle of what moves, one after the other: (batch, 4 * 81), each
    zero where its quadrant holds no patch.

    Args:
        codes: (batch, times, rows, columns, 81).
        speed: their weights (batch, times, rows, columns). A patch that the middle cuts counts in parts.
    """
    weight = speed + STILL
    below = _share_beyond_the_middle(weight.sum((1, 3)))
    right = _share_beyond_the_middle(weight.sum((1, 2)))
    shares = torch.einsum("bur,bvc->buvrc", torch.stack([1 - below, below], 1), torch.stack([1 - right, right], 1))
    shares = torch.einsum("bqrc,btrc->bqtrc", shares.flatten(1, 2), weight).flatten(2)
    means = shares @ codes.flatten(1, 3) / shares.sum(-1, keepdim=True).clamp(min=1e-12)
    return means.flatten(1)


def _share_beyond_the_middle(weight: torch.Tensor) -> torch.Tensor:
    """How much of each patch along an axis lies beyond the patches' mean place, 0 to 1. Weights: (batch, patches)."""
    places = torch.arange(weight.shape[1], dtype=weight.dtype)
    middle = (weight * places).sum(1, keepdim=True) / weight.sum(1, keepdim=True)
    return (places - middle + 0.5).clamp(0, 1)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Pictures of this size are too small for OpenCV's threads to save any time, and training has other uses for the
    cores."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)
