"""Video models of Transformers to compare with, with random weights, each on the clips that it was made for."""

from collections.abc import Callable
from typing import NamedTuple

from torch import nn
from transformers import VideoMAEConfig, VideoMAEForVideoClassification, VJEPA2Config, VJEPA2ForVideoClassification


class Peer(NamedTuple):
    """A classifier to compare with.

    Attributes:
        name: as tables have it.
        make: a new model.
        pixels: what its forward calls the pixels (batch, frames, channels, height, width).
        shape: (frames, channels, height, width) of its clips.
        most_clips: the largest batch that is measured.
    """

    name: str
    make: Callable[[], nn.Module]
    pixels: str
    shape: tuple[int, int, int, int]
    most_clips: int


PEERS = [
    Peer("VideoMAE-B", lambda: VideoMAEForVideoClassification(VideoMAEConfig()), "pixel_values", (16, 3, 224, 224), 64),
    Peer(
        "V-JEPA 2-L",
        lambda: VJEPA2ForVideoClassification(VJEPA2Config()),
        "pixel_values_videos",
        (64, 3, 256, 256),
        16,
    ),
]
