"""The label that `symmetric_view` gives is the motion that is seen, measured on clips drawn here."""

import itertools

import numpy as np
import pytest

from flux_hf.scripts.experiments.motion_clips import LABELS
from flux_hf.scripts.experiments.motion_clips.symmetries import symmetric_view

SIDE, FRAMES = 48, 6


def draw_clip(label: str) -> np.ndarray:
    """A bar of two grey values in front of black doing what the label says: (frames, side, side, 3)."""
    rows, columns = np.mgrid[:SIDE, :SIDE] - SIDE / 2 + 0.5
    clip = np.zeros((FRAMES, SIDE, SIDE, 3), np.uint8)
    for frame, time in enumerate(np.linspace(-1, 1, FRAMES)):
        x, y, scale, angle = 0.0, 0.0, 1.0, 0.6
        if label.startswith("moves"):
            x = 10 * time * {"moves_left": -1, "moves_right": 1}.get(label, 0)
            y = 10 * time * {"moves_up": -1, "moves_down": 1}.get(label, 0)
        elif label in ("approaches", "recedes"):
            scale = 1.5 ** (time if label == "approaches" else -time)
        elif label.startswith("turns"):
            angle += 0.5 * (time if label == "turns_clockwise" else -time)
        along = (columns - x) * np.cos(angle) + (rows - y) * np.sin(angle)
        across = -(columns - x) * np.sin(angle) + (rows - y) * np.cos(angle)
        clip[frame][(abs(along) < 9 * scale) & (abs(across) < 4 * scale)] = 200
    return clip


def measure(clip: np.ndarray) -> str:
    """The label of a drawn clip from centre, area and orientation of the bar in its first and last frame."""
    states = []
    for frame in (clip[0, ..., 0] > 0, clip[-1, ..., 0] > 0):
        y, x = np.nonzero(frame)
        covariance = np.cov(x, y)
        orientation = 0.5 * np.arctan2(2 * covariance[0, 1], covariance[0, 0] - covariance[1, 1])
        states.append((x.mean(), y.mean(), len(x), orientation))
    dx, dy, _, _ = np.subtract(states[1], states[0])
    turn = (states[1][3] - states[0][3] + np.pi / 2) % np.pi - np.pi / 2
    if abs(dx) > 5:
        return "moves_right" if dx > 0 else "moves_left"
    if abs(dy) > 5:
        return "moves_down" if dy > 0 else "moves_up"
    growth = states[1][2] / states[0][2]
    if not 0.7 < growth < 1.4:
        return "approaches" if growth > 1 else "recedes"
    if abs(turn) > 0.3:
        return "turns_clockwise" if turn > 0 else "turns_counterclockwise"
    return "still"


@pytest.mark.parametrize("label", LABELS)
def test_the_label_of_every_view_is_what_it_shows(label):
    clip = draw_clip(label)
    assert measure(clip) == label
    for turns, mirror, backwards in itertools.product(range(-1, 5), (False, True), (False, True)):
        view, name = symmetric_view(clip, label, quarter_turns=turns, mirror=mirror, backwards=backwards)
        assert name == measure(view), (turns, mirror, backwards)


def test_the_sixteen_views_are_different():
    clip = draw_clip("moves_left")
    clip[0, :5, :9] = 99
    views = {
        symmetric_view(clip, "moves_left", quarter_turns=turns, mirror=mirror, backwards=backwards)[0].tobytes()
        for turns, mirror, backwards in itertools.product(range(4), (False, True), (False, True))
    }
    assert len(views) == 16
