"""Features for classical classifiers: thumbnails, what changes between frames, and how the picture flows."""

import numpy as np
import torch
from torch.nn.functional import adaptive_avg_pool2d

from flux_hf.scripts.experiments.default_checkpoint.flow_features import flow_features
from flux_hf.scripts.experiments.manipulation_clips.pixels import SIZE, Clips, whole_view
from flux_hf.scripts.experiments.manipulation_clips.tasks import PAIRS

THUMBNAIL = 16
DIFFERENCE = 12
MOMENTS = (0, 4, 8, 12, 15)
REGULARISATION = 0.01
"""scikit-learn's C, on features of deviation 1."""
CLIPS_AT_ONCE = 64
TREES = 500
"""As in `default_checkpoint`."""


def thumbnails(clips: Clips, choose) -> torch.Tensor:
    """Chosen frames in colour, 16 x 16 pixels each: float (clips, features), on the CPU."""
    parts = [whole_view(choose(part), SIZE) for part in clips.frames.split(CLIPS_AT_ONCE)]
    return torch.cat([adaptive_avg_pool2d(part.flatten(1, 2), THUMBNAIL).flatten(1).cpu() for part in parts])


def differences(clips: Clips) -> torch.Tensor:
    """Between five frames in grey, on 12 x 12 cells: the change, how much changes whatever its sign, and the change
    times the picture's slope to the right and downwards, whose sign says where an edge moves. Float (clips, features),
    on the CPU."""
    return torch.cat([_differences(part).cpu() for part in clips.frames.split(CLIPS_AT_ONCE)])


def _differences(frames: torch.Tensor) -> torch.Tensor:
    grey = whole_view(frames[:, list(MOMENTS)], SIZE).mean(dim=2)
    before, change = (grey[:, 1:] + grey[:, :-1]) / 2, grey.diff(dim=1)
    down, right = torch.gradient(before, dim=(2, 3))
    maps = torch.cat([change, change.abs(), change * right, change * down], dim=1)
    return adaptive_avg_pool2d(maps, DIFFERENCE).flatten(1)


def flow(clips: Clips) -> torch.Tensor:
    """The statistics of the optical flow between every second frame (`default_checkpoint/flow_features.py`; here frames
    have the size of the cache): double (clips, 24), on the CPU."""
    grey = clips.frames[:, 1::2].float().mean(dim=-1).round().to(torch.uint8).cpu().numpy()
    return torch.from_numpy(np.stack([flow_features(frames) for frames in grey]))


def forest_logits(train: torch.Tensor, labels: torch.Tensor, test: torch.Tensor, seed: int) -> torch.Tensor:
    """Random forest of all labels, (clips, features) -> probabilities (clips of `test`, labels)."""
    from sklearn.ensemble import RandomForestClassifier

    forest = RandomForestClassifier(TREES, random_state=seed).fit(train.numpy(), labels.numpy())
    return torch.from_numpy(forest.predict_proba(test.numpy()))


def task_logits(train: torch.Tensor, labels: torch.Tensor, test: torch.Tensor) -> torch.Tensor:
    """Logistic regression of all labels, (clips, features) -> log probabilities (clips of `test`, labels)."""
    return torch.from_numpy(_fitted(train, labels).predict_log_proba(test.numpy()))


def pair_logits(train: torch.Tensor, labels: torch.Tensor, test: torch.Tensor, label_names: list[str]) -> torch.Tensor:
    """As `task_logits`, of a logistic regression for every pair of opposites alone: scores are comparable within a pair
    only."""
    logits = torch.zeros(len(test), len(label_names), dtype=torch.double)
    for pair in PAIRS:
        if not set(pair) <= set(label_names):
            continue
        first, second = sorted(label_names.index(name) for name in pair)
        members = torch.isin(labels, torch.tensor([first, second]))
        found = _fitted(train[members], labels[members]).predict_log_proba(test.numpy())
        logits[:, [first, second]] = torch.from_numpy(found).double()
    return logits


def _fitted(features: torch.Tensor, labels: torch.Tensor):
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=REGULARISATION, max_iter=300))
    return classifier.fit(features.numpy(), labels.numpy())
