"""Views of a motion clip whose label is known: quarter turns, mirroring and playing backwards."""

import numpy as np

_QUARTER_TURN = {
    "moves_left": "moves_down",
    "moves_down": "moves_right",
    "moves_right": "moves_up",
    "moves_up": "moves_left",
}
_MIRROR = {
    "moves_left": "moves_right",
    "moves_right": "moves_left",
    "turns_clockwise": "turns_counterclockwise",
    "turns_counterclockwise": "turns_clockwise",
}
_BACKWARDS = _MIRROR | {
    "moves_up": "moves_down",
    "moves_down": "moves_up",
    "approaches": "recedes",
    "recedes": "approaches",
}


def symmetric_view(
    clip: np.ndarray, label: str, *, quarter_turns: int, mirror: bool, backwards: bool
) -> tuple[np.ndarray, str]:
    """The clip (frames, height, width, channels) turned counter-clockwise by `quarter_turns` x 90 degrees, then
    mirrored left to right, then played backwards, and the label it has then. The clip is a view of the input."""
    for _ in range(quarter_turns % 4):
        label = _QUARTER_TURN.get(label, label)
    clip = np.rot90(clip, quarter_turns, axes=(1, 2))
    if mirror:
        clip, label = clip[:, :, ::-1], _MIRROR.get(label, label)
    if backwards:
        clip, label = clip[::-1], _BACKWARDS.get(label, label)
    return clip, label
