"""Networks that are trained beside FluxViT. All take float (clips, frames, 3, size, size) and return logits."""

import copy
from dataclasses import replace

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from flux_hf.scripts.experiments.any_model.models import SETTINGS, videomae
from flux_hf.scripts.experiments.own_clips.baselines import frame_cnn, three_frames

WIDTHS = (16, 32, 64, 128)
LARGE_WIDTHS = (32, 64, 128, 256)


class ClipCNN(nn.Module):
    """A 3D CNN, of 0.3 million parameters by default: a convolution of each width, mean over time and space, one linear
    layer."""

    def __init__(self, num_labels: int, widths: tuple[int, ...] = WIDTHS):
        super().__init__()
        layers, channels = [], 3
        for width in widths:
            stride = (1 if channels == 3 else 2, 2, 2)
            layers += [nn.Conv3d(channels, width, 3, stride, padding=1, bias=False), nn.BatchNorm3d(width), nn.ReLU()]
            channels = width
        self.network = nn.Sequential(*layers, nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(channels, num_labels))

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        return self.network(clips.transpose(1, 2))


class SmallVideoMAE(nn.Module):
    """Transformers' VideoMAE of random weights as in the experiment any_model, as many parameters as fluxvit_nano."""

    def __init__(self, label_names: list[str]):
        super().__init__()
        self.network = videomae(replace(SETTINGS["videomae"], width=128, heads=4), label_names)

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        return self.network(video).logits


NETWORKS = {
    "three_frames": lambda names: frame_cnn(3, len(names)),
    "cnn": lambda names: ClipCNN(len(names)),
    "large_cnn": lambda names: ClipCNN(len(names), LARGE_WIDTHS),
    "videomae": SmallVideoMAE,
}


def frames_of(name: str, clips: torch.Tensor) -> torch.Tensor:
    """What a network of this name is given of clips (clips, frames, ...)."""
    return three_frames(clips) if name == "three_frames" else clips


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
