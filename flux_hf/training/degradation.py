"""What cameras and codecs do to a clip: trembling, blur, poor light, noise and compression of random strength."""

import io

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import affine_grid, grid_sample
from torchvision.transforms.v2.functional import gaussian_blur, gaussian_noise, to_dtype
from torchvision.tv_tensors import Video

TREMBLING = (0.001, 0.006)
"""Standard deviation, in sides of the picture."""

BLUR = (0.3, 1.5)
"""Standard deviation in pixels."""

LIGHT = (0.3, 1.0)
"""Share of the brightness that is left."""

FLICKER = (0.0, 0.03)
"""Standard deviation of the light of a frame, as a share."""

NOISE = (0.01, 0.1)
"""Standard deviation, for values from 0 to 1."""

QUALITY = (10, 60)
"""Of JPEG."""


def degrade(clip: Video, probability: float) -> Video:
    """Trembling, blur, poor light, noise and JPEG compression, in this order, each with this probability. A clip has
    one strength of each for all frames. Trembling, flicker and noise are other ones in every frame, so that a still
    camera's picture changes everywhere.

    Args:
        clip: float32 (frames, 3, height, width) of values from 0 to 1; what comes back is like it.
    """
    if _drawn(probability):
        clip = _trembling(clip, _uniform(*TREMBLING))
    if _drawn(probability):
        sigma = _uniform(*BLUR)
        clip = gaussian_blur(clip, [2 * round(2 * sigma) + 1] * 2, [sigma] * 2)
    if _drawn(probability):
        clip = _poorly_lit(clip, _uniform(*LIGHT), _uniform(*FLICKER))
    if _drawn(probability):
        clip = gaussian_noise(clip.contiguous(), sigma=_uniform(*NOISE))  # in other layouts drawing is slow
    if _drawn(probability):
        clip = _compressed(clip, torch.randint(QUALITY[0], QUALITY[1] + 1, ()).item())
    return clip


def _trembling(clip: Video, strength: float) -> Video:
    """Every frame moved by parts of a pixel or more; at the sides the picture goes on as it ends."""
    moves = torch.eye(2, 3).repeat(len(clip), 1, 1)
    moves[:, :, 2] = 2 * strength * torch.randn(len(clip), 2)  # of sides that are 2 long
    grid = affine_grid(moves.to(clip.device), list(clip.shape), align_corners=False)
    return Video(grid_sample(clip.as_subclass(torch.Tensor), grid, padding_mode="border", align_corners=False))


def _poorly_lit(clip: Video, light: float, flicker: float) -> Video:
    gains = (light * (1 + flicker * torch.randn(len(clip), 1, 1, 1))).clamp(0)
    return Video((clip * gains.to(clip.device)).clamp(0, 1))


def _compressed(clip: Video, quality: int) -> Video:
    frames = []
    for frame in to_dtype(clip, torch.uint8, scale=True).permute(0, 2, 3, 1).cpu().numpy():
        Image.fromarray(frame).save(file := io.BytesIO(), "JPEG", quality=quality)
        frames.append(np.asarray(Image.open(file)))
    bytes_of_frames = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).contiguous()
    return to_dtype(Video(bytes_of_frames.to(clip.device)), torch.float32, scale=True)


def _drawn(probability: float) -> bool:
    return bool(torch.rand(()) < probability)


def _uniform(low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand(()))
