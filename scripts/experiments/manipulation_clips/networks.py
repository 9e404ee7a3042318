"""Networks that are trained beside FluxViT. All take float (clips, frames, 3, size, size) and return logits."""

import copy
from dataclasses import replace

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from flux_hf.scripts.experiments.any_model.models import SETTINGS, videomae
from flux_hf.scripts.experiments.manipulation_clips.pixels import THREE
from flux_hf.scripts.experiments.own_clips.baselines import small_cnn

FRAME_WIDTHS = (32, 64, 128, 256)
LARGE_WIDTHS = (32, 64, 128, 256)


def frame_cnn(frames: int, num_labels: int) -> nn.Module:
    """A 2D CNN, 0.4 million parameters. Several frames lie on top of each other as channels, in their order."""
    layers, channels = [nn.Flatten(1, 2)], 3 * frames
    for width in FRAME_WIDTHS:
        layers += [nn.Conv2d(channels, width, 3, 2, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_labels))


class ThreeFrameCNN(nn.Module):
    """The 2D CNN on the first, the middle and the last frame."""

    def __init__(self, num_labels: int):
        super().__init__()
        self.network = frame_cnn(len(THREE), num_labels)

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        return self.network(video[:, THREE])


class ClipCNN(nn.Module):
    """The 3D CNN of own clips, 0.3 million parameters, or with `LARGE_WIDTHS` 1.2 million."""

    def __init__(self, *args):
        super().__init__()
        self.network = small_cnn(*args)

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        return self.network(video.transpose(1, 2))


class SmallVideoMAE(nn.Module):
    """Transformers' VideoMAE of random weights as in the experiment any_model, as many parameters as fluxvit_nano."""

    def __init__(self, label_names: list[str]):
        super().__init__()
        self.network = videomae(replace(SETTINGS["videomae"], width=128, heads=4), label_names)

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        return self.network(video).logits


NETWORKS = {
    "three_frames": lambda names: ThreeFrameCNN(len(names)),
    "cnn": lambda names: ClipCNN(len(names)),
    "large_cnn": lambda names: ClipCNN(len(names), LARGE_WIDTHS),
    "videomae": SmallVideoMAE,
}


def parameters(network: nn.Module) -> int:
    return sum(values.numel() for values in network.parameters())


@torch.no_grad()
def gmacs(network: nn.Module, frames: int, size: int) -> float:
    """1e9 multiply-accumulates of one clip, counted by torch."""
    skeleton = copy.deepcopy(network).to("meta").eval()
    for module in skeleton.modules():
        if hasattr(module, "set_attn_implementation"):
            module.set_attn_implementation("eager")
    with FlopCounterMode(display=False) as counter:
        skeleton(torch.empty(1, frames, 3, size, size, device="meta"))
    return counter.get_total_flops() / 2e9
