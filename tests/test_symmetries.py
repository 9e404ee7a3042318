"""Label symmetries: the label that a view gets is the motion that is seen, measured on clips drawn here."""

from pathlib import Path

import numpy as np
import pytest

from flux_hf.scripts.experiments.motion_clips import LABELS
from flux_hf.training.label_symmetries import LabelSymmetries, load_label_symmetries
from tests import tiny_training

MOTION = Path(__file__).parent.parent / "scripts" / "experiments" / "recipes" / "motion_symmetries.yaml"
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
    symmetries, generator = load_label_symmetries(str(MOTION), list(LABELS)), np.random.default_rng(0)
    clip = draw_clip(label)
    assert measure(clip) == label
    for _ in range(100):
        view, number = symmetries.view(clip, LABELS.index(label), generator)
        assert LABELS[number] == measure(view)


def test_all_sixteen_views_come():
    symmetries, generator = load_label_symmetries(str(MOTION), list(LABELS)), np.random.default_rng(0)
    clip = draw_clip("moves_left")
    clip[0, :5, :9] = 99
    views = [symmetries.view(clip, LABELS.index("moves_left"), generator)[0].tobytes() for _ in range(400)]
    assert len(set(views)) == 16 and max(map(views.count, views)) < 50  # 25 each


def test_an_operation_that_the_table_lacks_is_not_done_and_null_leaves_a_clip_as_it_is():
    names, clip = ["left", "right", "word", "ball"], np.random.default_rng(0).integers(0, 9, (3, 4, 5, 1))
    symmetries = LabelSymmetries({"mirror": {"left": "right", "right": "left", "word": None}}, names)
    seen = {name: set() for name in names}
    for draw in range(40):
        for number, name in enumerate(names):
            view, label = symmetries.view(clip, number, np.random.default_rng(draw))
            mirrored = np.array_equal(view, clip[:, :, ::-1])
            assert mirrored or np.array_equal(view, clip)
            seen[name].add((mirrored, names[label]))
    assert seen == {
        "left": {(False, "left"), (True, "right")},
        "right": {(False, "right"), (True, "left")},
        "word": {(False, "word")},
        "ball": {(False, "ball"), (True, "ball")},
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mirror: {a: d}", r"table.yaml names d: no labels of the data set, which has a, b, c$"),
        ("mirror: {x: a, a: x}", r"table.yaml names x: no labels"),
        ("mirror: {a: b}", r"table.yaml, mirror: a -> b -> b must come back to a after 2 times"),
        ("quarter_turn: {a: b, b: a, c: b}", r"quarter_turn: c -> b -> a -> b -> a must come back to c after 4 times"),
        (
            "upside_down: {a: b}",
            r"table.yaml has the section upside_down; accepted are sections quarter_turn, mi",
        ),
        ("a: b", r"table.yaml is not a table of sections; accepted are"),
        ("mirror:", r"table.yaml is not a table of sections"),
        ("mirror: {a", r"table.yaml is not YAML"),
        ("mirror: {no: a}", r"table.yaml names False: no labels"),
    ],
)
def test_tables_that_do_not_fit(tmp_path, text, message):
    table = tmp_path / "table.yaml"
    table.write_text(text)
    with pytest.raises(ValueError, match=message):
        load_label_symmetries(str(table), ["a", "b", "c"])


def test_the_table_is_found_by_name_or_by_path(tmp_path):
    with pytest.raises(ValueError, match=r"there is no table of label symmetries 'nowhere'; there are ssv2"):
        load_label_symmetries("nowhere", ["a"])
    with pytest.raises(ValueError, match=r"label_symmetries: .*nowhere.yaml cannot be read: No such file"):
        load_label_symmetries(str(tmp_path / "nowhere.yaml"), ["a"])
    pairs = ["Pulling something from {} to {}", "Pushing something from {} to {}"]
    names = [pair.format(*sides) for pair in pairs for sides in (("left", "right"), ("right", "left"))]
    names += [f"Turning the camera {side} while filming something" for side in ("left", "right")]
    names.append("Turning something upside down")
    symmetries = load_label_symmetries("ssv2", names)
    clip, generator = np.arange(4).reshape(1, 1, 4, 1), np.random.default_rng(1)
    for number, partner in enumerate([1, 0, 3, 2, 5, 4, 6]):
        views = [symmetries.view(clip, number, generator) for _ in range(20)]
        assert {(int(view[0, 0, 0, 0]), label) for view, label in views} == {(0, number), (3, partner)}


def test_training_takes_the_label_of_the_view(tmp_path):
    """Clips whose left half says the label: in the mirror that of a is that of b."""
    table = tmp_path / "table.yaml"
    table.write_text("mirror: {a: b, b: a}")
    clips = tiny_training.clips(12)
    clips.clips[:] = 0
    for number, label in enumerate(clips.labels):
        side = {0: slice(0, 24), 1: slice(24, 48), 2: slice(0, 48)}[int(label)]
        clips.clips[number, :, :, side] = 255
    options = {"label_symmetries": str(table), "rand_augment_ops": 0, "min_crop_area": 1.0, "max_crop_aspect": 1.0}
    trainer = tiny_training.trainer(tmp_path, train=clips, flip=False, **options)
    seen = set()
    for batch in trainer.get_train_dataloader():
        for name, view, label in zip(batch["names"], batch["pixel_values_videos"], batch["labels"], strict=True):
            left, right = (half.mean() > 0 for half in view.chunk(2, dim=-1))
            assert (bool(left), bool(right)) == [(True, False), (False, True), (True, True)][label]
            seen.add((int(name.split()[1]) % 3, int(label)))
    assert seen >= {(0, 1), (1, 0), (2, 2)}

    trainer = tiny_training.trainer(tmp_path, flip=True, label_symmetries=str(table))
    with pytest.raises(ValueError, match=r"flip mirrors clips .* label_symmetries .*table.yaml .*: set flip to false"):
        trainer.train()
