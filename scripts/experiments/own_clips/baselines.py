"""Simple classifiers to compare with: three thumbnails and a logistic regression, and a small CNN."""

import math
import time

import numpy as np
import torch
from datasets import Dataset
from torch import nn
from torch.nn.functional import adaptive_avg_pool2d, cross_entropy

from flux_hf import FluxVideoProcessor
from flux_hf.data.reading import read_clip
from flux_hf.scripts.experiments.own_clips.views import random_view

THUMBNAIL = 16
WIDTHS = (32, 64, 128, 256)
LEARNING_RATE = 3e-3
WARM_UP = 0.1
BATCH = 16
LABEL_SMOOTHING = 0.1


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
    """Three frames of every clip as FluxViT gets it at test, on the grid of the largest budget: float tensor
    (clips, 3, channels, height, width)."""
    videos = [processor(row["video"], return_tensors="pt")["pixel_values_videos"] for row in clips]
    return torch.cat([three_frames(video) for video in videos])


def frame_cnn(frames: int, num_labels: int) -> nn.Sequential:
    """A 2D CNN, 0.4 million parameters. Several frames lie on top of each other as channels, in their order."""
    layers, channels = [nn.Flatten(1, 2)], 3 * frames
    for width in WIDTHS:
        layers += [nn.Conv2d(channels, width, 3, 2, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_labels))


def three_frames(clips: torch.Tensor) -> torch.Tensor:
    """The first, the middle and the last frame of clips (clips, frames, ...)."""
    last = clips.shape[1] - 1
    return clips[:, [0, (last + 1) // 2, last]]


def fit_cnn(train: Dataset, processor: FluxVideoProcessor, cpu_seconds: float, seed: int) -> nn.Module:
    """A [`frame_cnn`] on three frames, trained with AdamW until decoding and training have taken `cpu_seconds` of this
    process; the learning rate warms up and then falls to 0 along a cosine, both over that time."""
    began = time.process_time()
    torch.manual_seed(seed)
    clips, labels = cnn_clips(train, processor), torch.tensor(train["label"][:])
    model = frame_cnn(3, train.features["label"].num_classes).train()
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
def predict_cnn(model: nn.Module, test: Dataset, processor: FluxVideoProcessor) -> np.ndarray:
    """The label of every clip: int array (clips,)."""
    return torch.cat([model(batch).argmax(dim=1) for batch in cnn_clips(test, processor).split(BATCH)]).numpy()
