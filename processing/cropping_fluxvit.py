"""Several spatial crops of a video, evenly along its longer side."""

import torch


def crops_along_longer_side(video: torch.Tensor, height: int, width: int, num_crops: int) -> list[torch.Tensor]:
    """`num_crops` views (..., height, width) of a video (..., rows, columns): the first at the start of its longer
    side, the last at its end, offsets cut to whole pixels as in the official evaluation. Along the shorter side they
    lie in the middle, and so does a single one.

    Raises:
        ValueError: the crop is larger than the video.
    """
    rows, columns = video.shape[-2:]
    upright = rows > columns
    tops = _offsets(rows, height, num_crops if upright else 1)
    lefts = _offsets(columns, width, 1 if upright else num_crops)
    return [video[..., top : top + height, left : left + width] for top in tops for left in lefts]


def _offsets(length: int, window: int, num_crops: int) -> list[int]:
    if window > length:
        raise ValueError(f"a crop of {window} pixels does not fit into a frame of {length} pixels")
    if num_crops == 1:
        return [(length - window) // 2]
    return [index * (length - window) // (num_crops - 1) for index in range(num_crops)]
