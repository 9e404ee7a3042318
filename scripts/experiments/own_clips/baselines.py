"""Simple classifiers to compare with: three thumbnails and a logistic regression, a small 3D CNN and a 2D one."""

import math
import time

import numpy as np
import torch
from datasets import Dataset
from torch import nn
from torch.nn.functional import adaptive_avg_pool2d, cross_entropy

from flux_hf import FluxVideoProcessor
from flux_hf.data.reading import read_clip

THUMBNAIL = 16
WIDTHS = (16, 32, 64, 128)
FRAME_WIDTHS = (32, 64, 128, 256)
SHIFT = 8
LEARNING_RATE = 3e-3
WARM_UP = 0.1
BATCH = 16


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


def cnn_clips(clips: Dataset, processor: FluxVideoProcessor) -> torch.Tensor:
    """Every clip as FluxViT gets it at test, on the grid of the largest budget: float tensor
    (clips, channels, frames, height, width)."""
    videos = [processor(row["video"], return_tensors="pt")["pixel_values_videos"][0] for row in clips]
    return torch.stack(videos).transpose(1, 2)


def small_cnn(num_labels: int, widths: tuple[int, ...] = WIDTHS) -> nn.Sequential:
    """A 3D CNN, of 0.3 million parameters by default: a convolution of each width, mean over time and space, one linear
    layer."""
    layers, channels = [], 3
    for width in widths:
        stride = (1 if channels == 3 else 2, 2, 2)
        layers += [nn.Conv3d(channels, width, 3, stride, padding=1, bias=False), nn.BatchNorm3d(width), nn.ReLU()]
        channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(channels, num_labels))


def frame_cnn(frames: int, num_labels: int) -> nn.Sequential:
    """A 2D CNN, 0.4 million parameters. Several frames lie on top of each other as channels, in their order."""
    layers, channels = [nn.Flatten(1, 2)], 3 * frames
    for width in FRAME_WIDTHS:
        layers += [nn.Conv2d(channels, width, 3, 2, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_labels))


class ThreeFrameCNN(nn.Module):
    """The 2D CNN on the first, the middle and the last frame of clips (clips, channels, frames, height, width)."""

    def __init__(self, num_labels: int):
        super().__init__()
        self.network = frame_cnn(3, num_labels)

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        last = clips.shape[2] - 1
        return self.network(clips[:, :, [0, (last + 1) // 2, last]])


NETWORKS = {"cnn": small_cnn, "three_frames": ThreeFrameCNN}
"""Takes the number of labels; by the name of the method."""


def fit_cnn(
    train: Dataset, processor: FluxVideoProcessor, cpu_seconds: float, seed: int, method: str = "cnn"
) -> nn.Module:
    """One of [`NETWORKS`], trained with AdamW until decoding and training have taken `cpu_seconds` of this process; the
    learning rate warms up and then falls to 0 along a cosine, both over that time. Every batch is shifted by up to 8
    pixels, what leaves on one side comes in on the other."""
    began = time.process_time()
    torch.manual_seed(seed)
    clips, labels = cnn_clips(train, processor), torch.tensor(train["label"][:])
    model = NETWORKS[method](train.features["label"].num_classes).train()
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.05)
    order = torch.empty(0, dtype=torch.long)
    while (share := (time.process_time() - began) / cpu_seconds) < 1:
        order = order if len(order) else torch.randperm(len(clips))
        batch, order = order[:BATCH], order[BATCH:]
        rate = LEARNING_RATE * min(share / WARM_UP, 1) * (1 + math.cos(math.pi * share)) / 2
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        shifts = torch.randint(-SHIFT, SHIFT + 1, (2,)).tolist()
        cross_entropy(model(clips[batch].roll(shifts, (3, 4))), labels[batch]).backward()
        optimizer.step()
    return model.eval()


@torch.no_grad()
def predict_cnn(model: nn.Module, test: Dataset, processor: FluxVideoProcessor) -> np.ndarray:
    """The label of every clip: int array (clips,)."""
    return torch.cat([model(batch).argmax(dim=1) for batch in cnn_clips(test, processor).split(BATCH)]).numpy()
