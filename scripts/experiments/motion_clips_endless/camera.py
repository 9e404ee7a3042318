"""What a poor camera and a codec make of frames, for a whole batch on its device."""

import math

import torch

from flux_hf.scripts.experiments.motion_clips_endless.dice import Dice

MOST_NOISE = 16 / 255
STEP = 3 / 255, 70 / 255
"""Steps of the quantiser: those of H.264 at its quantisers 14 to 41."""
BLOCK = 8


def film(frames: torch.Tensor, dice: Dice) -> torch.Tensor:
    """Frames (clips, frames, 3, side, side) of 0 to 1 as a camera that does not move sees them: it trembles (a fifth),
    is out of focus (a third), in poor light (a third), flickers, is noisy (most); then a codec spoils them (most)."""
    count = len(frames)
    frames = _of_some(frames, dice.some(count, 0.2), _tremble, dice)
    frames = _of_some(frames, dice.some(count, 0.35), _blur, dice)
    frames = _of_some(frames, dice.some(count, 0.1), _grey, dice)
    frames = _exposed(frames, dice)
    frames = _noisy(frames, dice).clamp(0, 1)
    return _of_some(frames, dice.some(count, 0.85), _coded, dice).clamp(0, 1)


def _of_some(frames, places, change, dice):
    return frames.index_copy(0, places, change(frames[places], dice)) if len(places) else frames


def _grey(frames, dice):
    return frames.mean(2, keepdim=True).expand_as(frames)


def _tremble(frames, dice):
    """Every frame is elsewhere, with a standard deviation of 0.1 to 0.7 % of the side, at most twice that."""
    count, times, _, side, _ = frames.shape
    reach = dice.log_uniform((count, 1, 1), 0.002, 0.014)
    shift = (reach * dice.normal((count, times, 2)).clamp(-2, 2)).flatten(0, 1)
    ends = torch.eye(2, device=frames.device).expand(len(shift), 2, 2)
    grid = torch.nn.functional.affine_grid(
        torch.cat((ends, shift[..., None]), 2), (len(shift), 3, side, side), align_corners=False
    )
    moved = torch.nn.functional.grid_sample(frames.flatten(0, 1), grid, padding_mode="reflection", align_corners=False)
    return moved.unflatten(0, (count, times))


def _blur(frames, dice):
    """A Gaussian of 0.3 to 1.8 pixels in each direction."""
    count, times, channels = frames.shape[:3]
    width = dice.log_uniform((count, 1), 0.3, 1.8)
    taps = torch.arange(-4, 5, device=frames.device)
    kernel = torch.softmax(-0.5 * (taps / width) ** 2, 1)[:, None]
    planes = frames.flatten(1, 2).transpose(0, 1)
    for weight, padding in ((kernel[:, :, :, None], (0, 0, 4, 4)), (kernel[:, :, None], (4, 4, 0, 0))):
        planes = torch.nn.functional.pad(planes, padding, mode="replicate")
        planes = torch.nn.functional.conv2d(planes, weight, groups=count)
    return planes.transpose(0, 1).unflatten(1, (times, channels))


def _exposed(frames, dice):
    """Poor light and exposure that changes from frame to frame."""
    count, times = frames.shape[:2]
    gain = torch.where(dice.chance((count, 1), 0.35), dice.uniform((count, 1), 0.3, 0.9), 1.0)
    flicker = torch.where(dice.chance((count, 1), 0.3), dice.log_uniform((count, 1), 0.003, 0.04), 0.0)
    gain = gain * (1 + flicker * dice.normal((count, times)))
    return frames * gain[:, :, None, None, None]


def _noisy(frames, dice):
    """Noise that partly grows with brightness, of single pixels or, in a quarter, of two by two."""
    count, times, _, side, _ = frames.shape
    level = MOST_NOISE * dice.uniform((count, 1, 1, 1, 1)) ** 1.7 * ~dice.chance((count, 1, 1, 1, 1), 0.15)
    shot = dice.uniform((count, 1, 1, 1, 1), 0.2, 0.9)
    noise = dice.normal(frames.shape)
    coarse = dice.some(count, 0.25)
    if len(coarse):
        small = dice.normal((len(coarse), times, 3, side // 2, side // 2))
        noise = noise.index_copy(0, coarse, small.repeat_interleave(2, 3).repeat_interleave(2, 4))
    return frames + noise * (level * torch.sqrt(1 - shot + shot * frames.clamp(0, 1) * 2))


def _coded(frames, dice):
    """Blocks of 8 x 8 coefficients with fewer values. A key frame is coded by itself, any other as what differs from
    the frame before: what changes less than the quantiser's step stays as it was. Colours at half the size."""
    count, times, _, side, _ = frames.shape
    step = dice.log_uniform((count, 1, 1), *STEP)
    often = torch.where(dice.chance((count, 1), 0.5), dice.uniform((count, 1), 0, 0.5), 0.0)
    often = torch.where(dice.chance((count, 1), 0.12), 1.0, often)
    keys = dice.uniform((count, times)) < often
    keys[:, 0] = True
    luma = (frames * frames.new_tensor([0.299, 0.587, 0.114])[:, None, None]).sum(2, keepdim=True)
    colour = torch.nn.functional.avg_pool2d((frames[:, :, ::2] - luma).flatten(0, 1), 2).unflatten(0, (count, times))
    luma, colour = (_coded_planes(planes, keys, step) for planes in (luma, colour))
    colour = torch.nn.functional.interpolate(colour.flatten(0, 1), scale_factor=2, mode="bilinear").unflatten(
        0, (count, times)
    )
    red, blue = luma + colour[:, :, :1], luma + colour[:, :, 1:]
    return torch.cat((red, (luma - 0.299 * red - 0.114 * blue) / 0.587, blue), 2)


def _coded_planes(planes, keys, step):
    cosines, side = _cosines(planes.device), planes.shape[-1]
    rise = torch.arange(BLOCK, device=planes.device)
    steps = step[..., None] * (1 + 0.08 * (rise[:, None] + rise[None])).flatten()
    values = _blocks(planes) @ cosines.T
    before, coded = torch.zeros_like(values[:, 0]), []
    for time in range(planes.shape[1]):
        before = before * ~keys[:, time, None, None, None]
        change = (values[:, time] - before) / steps
        before = before + torch.trunc(change + 0.33 * change.sign()) * steps
        coded.append(before)
    return _unblocked(torch.stack(coded, 1) @ cosines, side)


def _blocks(planes):
    """(clips, frames, channels, side, side) -> (clips, frames, channels, blocks, 64)"""
    side = planes.shape[-1] // BLOCK
    planes = planes.unflatten(4, (side, BLOCK)).unflatten(3, (side, BLOCK))
    return planes.transpose(4, 5).flatten(5, 6).flatten(3, 4)


def _unblocked(blocks, side):
    side = side // BLOCK
    return blocks.unflatten(4, (BLOCK, BLOCK)).unflatten(3, (side, side)).transpose(4, 5).flatten(5, 6).flatten(3, 4)


def _cosines(device):
    """The orthonormal discrete cosine transform of 8 x 8 values, (64, 64)."""
    place = torch.arange(BLOCK, device=device, dtype=torch.float32)
    matrix = torch.cos(math.pi / BLOCK * (place[None] + 0.5) * place[:, None]) * math.sqrt(2 / BLOCK)
    matrix[0] /= math.sqrt(2)
    return torch.kron(matrix, matrix)
