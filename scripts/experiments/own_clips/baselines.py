"""Simple classifiers to compare with: three thumbnails and a logistic regression, a small 3D CNN and a 2D one."""

import math
import time
from functools import partial

import numpy as np
import torch
from datasets import Dataset
from torch import nn
from torch.nn.functional import adaptive_avg_pool2d, cross_entropy

from flux_hf import FluxVideoProcessor
from flux_hf.data.reading import read_clip
from flux_hf.scripts.experiments.own_clips.views import random_view

THUMBNAIL = 16
WIDTHS = (16, 32, 64, 128)
FRAME_WIDTHS = (32, 64, 128, 256)
LEARNING_RATE = 3e-3
WARM_UP = 0.1
BATCH = 16
LABEL_SMOOTHING = 0.1
THREE_FRAMES = "three_frames"


def thumbnails(clips: Dataset) -> np.ndarray:
    """The first, the middle and the last frame of every clip in grey, 16 x 16 pixels each: float32 array
    (clips, 768), 0 to 1."""
    return np.stack([_thumbnails(row) for row in clips])


def _thumbnails(row: dict) -> np.ndarray:
    frames = read_clip(row, lambda total: np.array([0, total // 2, total - 1]))
    grey = torch.from_numpy(frames).float().mean(dim=-1) / 255
    return adaptive_avg_pool2d(grey, THUMBNAIL).flatten().numpy()


def fit_thumbnails(train: Dataset):
    """A logistic regression of scikit-learn on [`thumbnails`], fitted."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(max_iter=1000).fit(thumbnails(train), train["label"][:])


def cnn_clips(clips: Dataset, processor: FluxVideoProcessor, method: str) -> torch.Tensor:
    """Every clip as FluxViT gets it at test, on the grid of the largest budget, the frames that the network of `method`
    looks at: float tensor (clips, frames, channels, height, width)."""
    videos = [processor(row["video"], return_tensors="pt")["pixel_values_videos"] for row in clips]
    return torch.cat([frames_of(method, video) for video in videos])


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


def frame_cnn(frames: int, num_labels: int) -> nn.Sequential:
    """A 2D CNN, 0.4 million parameters. Several frames lie on top of each other as channels, in their order."""
    layers, channels = [nn.Flatten(1, 2)], 3 * frames
    for width in FRAME_WIDTHS:
        layers += [nn.Conv2d(channels, width, 3, 2, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_labels))


NETWORKS = {"cnn": ClipCNN, THREE_FRAMES: partial(frame_cnn, 3)}
"""Takes the number of labels; by the name of the method. All take clips (clips, frames, 3, height, width)."""


def frames_of(method: str, clips: torch.Tensor) -> torch.Tensor:
    """What the network of a method looks at in clips (clips, frames, ...): the first, the middle and the last frame, or
    all of them."""
    last = clips.shape[1] - 1
    return clips[:, [0, (last + 1) // 2, last]] if method == THREE_FRAMES else clips


def fit_cnn(
    train: Dataset, processor: FluxVideoProcessor, cpu_seconds: float, seed: int, method: str = "cnn"
) -> nn.Module:
    """One of [`NETWORKS`], trained with AdamW until decoding and training have taken `cpu_seconds` of this process; the
    learning rate warms up and then falls to 0 along a cosine, both over that time."""
    began = time.process_time()
    torch.manual_seed(seed)
    clips, labels = cnn_clips(train, processor, method), torch.tensor(train["label"][:])
    model = NETWORKS[method](train.features["label"].num_classes).train()
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.05)
    order = torch.empty(0, dtype=torch.long)
    while (share := (time.process_time() - began) / cpu_seconds) < 1:
        order = order if len(order) else torch.randperm(len(clips))
        batch, order = order[:BATCH], order[BATCH:]
        rate = LEARNING_RATE * min(share / WARM_UP, 1) * (1 + math.cos(math.pi * share)) / 2
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        logits = model(random_view(clips[batch], clips.shape[-1]))
        cross_entropy(logits, labels[batch], label_smoothing=LABEL_SMOOTHING).backward()
        optimizer.step()
    return model.eval()


@torch.no_grad()
def predict_cnn(model: nn.Module, test: Dataset, processor: FluxVideoProcessor, method: str = "cnn") -> np.ndarray:
    """The label of every clip: int array (clips,)."""
    return torch.cat([model(batch).argmax(dim=1) for batch in cnn_clips(test, processor, method).split(BATCH)]).numpy()
