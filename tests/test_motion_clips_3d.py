"""The clips with bodies in space: what is decided about them, and, where MuJoCo is installed, what is rendered."""

import dataclasses
import json
from importlib.util import find_spec

import av
import numpy as np
import pytest

from flux_hf.scripts.experiments.motion_clips.trajectories import LABELS
from flux_hf.scripts.experiments.motion_clips_3d.bodies import BODIES, TEST_BODIES, draw_body, extents, placed
from flux_hf.scripts.experiments.motion_clips_3d.make import MotionClip3dOptions, make_dataset
from flux_hf.scripts.experiments.motion_clips_3d.motions import poses
from flux_hf.scripts.experiments.motion_clips_3d.specification import SPLITS, draw_spec

needs_mujoco = pytest.mark.skipif(find_spec("mujoco") is None, reason="needs mujoco")

STEPS = np.linspace(0, 1, 9)


@pytest.fixture(scope="module")
def specs():
    return [draw_spec(label, "train", (3, number)) for number, label in enumerate(LABELS)]


def seen(spec, points):
    """Where points in space lie in the picture, right and up, in short sides from its centre."""
    return points[..., (0, 2)] / points[..., 1:2] / spec.short_side


def way(spec):
    """Of the body in the picture: its centre, its size, and the angle of a rod on it, clockwise, for each step."""
    positions, turns = poses(spec.motion, STEPS, spec.middle, spec.short_side)
    rod = turns @ (1, 0, 0)
    angle = np.unwrap(-np.arctan2(rod[:, 2], rod[:, 0]))
    return seen(spec, positions), 1 / positions[:, 1], angle


@pytest.mark.parametrize("number", range(3))
def test_the_picture_shows_the_motion_that_the_label_names(number):
    for label in LABELS:
        spec = draw_spec(label, "train", (5, number))
        centre, size, angle = way(spec)
        (right, up), nearer, turned = centre[-1] - centre[0], np.log(size[-1] / size[0]), angle[-1] - angle[0]
        amount = spec.motion.amount(label)
        expected = {
            "moves_left": (-right, abs(up)),
            "moves_right": (right, abs(up)),
            "moves_up": (up, abs(right)),
            "moves_down": (-up, abs(right)),
        }
        if label == "still":
            assert amount == 0 and np.ptp(centre, 0).max() == np.ptp(size) == np.ptp(angle) == 0
        elif label in expected:
            along, across = expected[label]
            assert along > 2 * across and np.hypot(along, across) == pytest.approx(amount, rel=0.25)
        elif label in ("approaches", "recedes"):
            assert (nearer if label == "approaches" else -nearer) == pytest.approx(amount)
        else:
            clockwise = turned if label == "turns_clockwise" else -turned
            assert clockwise == pytest.approx(amount, abs=0.35)


def test_only_the_motion_depends_on_the_label():
    texts = set()
    for label in ("still", "moves_up", "approaches", "turns_clockwise"):
        spec = draw_spec(label, "train", (8, 1))
        plain = dataclasses.replace(spec, label="", motion=None)
        texts.add(repr(plain))
        assert np.array_equal(spec.surfaces[0].texture, draw_spec("still", "train", (8, 1)).surfaces[0].texture)
    assert len(texts) == 1


def test_the_body_touches_nothing_on_its_way(specs):
    for spec in specs:
        positions, _ = poses(spec.motion, STEPS, spec.middle, spec.short_side)
        for plane in spec.room.planes:
            assert (positions @ plane.normal + plane.height).min() > spec.radius
        for bystander in spec.room.bystanders:
            distances = np.linalg.norm(positions - bystander.position, axis=1)
            assert distances.min() > spec.radius + bystander.radius


def test_bodies_of_the_test_split_are_in_no_other():
    kinds = {split: {draw_spec("still", split, (1, number)).body_kind for number in range(5)} for split in SPLITS}
    assert kinds["test"] <= set(TEST_BODIES) and not kinds["test"] & set(BODIES)
    assert kinds["train"] | kinds["validation"] <= set(BODIES)


@pytest.mark.parametrize("kind", (*BODIES, *TEST_BODIES))
def test_a_body_is_scaled_and_turned_about_its_middle(kind):
    parts = draw_body(np.random.default_rng(1), kind)
    quarter = np.array([[0, 0, 1], [0, 1, 0], [-1, 0, 0]])
    area, radius = extents(placed(parts, np.eye(3), 1))
    doubled_area, doubled_radius = extents(placed(parts, quarter, 2))
    assert doubled_radius == pytest.approx(2 * radius)
    assert doubled_area == pytest.approx(4 * area, rel=0.1)


def test_options_that_make_no_sense_are_named(tmp_path):
    with pytest.raises(ValueError, match="validation"):
        make_dataset(MotionClip3dOptions(output_dir=str(tmp_path / "data"), validation=-1))
    with pytest.raises(ValueError, match="workers"):
        make_dataset(MotionClip3dOptions(output_dir=str(tmp_path / "data"), workers=0))
    with pytest.raises(ValueError, match="flies"):
        draw_spec("flies", "train", (0, 0))
    with pytest.raises(ValueError, match="exam"):
        draw_spec("still", "exam", (0, 0))


@needs_mujoco
@pytest.mark.slow
def test_pictures_are_still_where_the_body_is_and_show_as_much_of_it_as_is_said():
    from flux_hf.scripts.experiments.motion_clips_3d.mujoco_rendering import render

    for label in ("still", "moves_left", "turns_clockwise"):
        spec = dataclasses.replace(draw_spec(label, "train", (2, 4)), noise=0.0, flicker=0.0, num_frames=12)
        frames, covered = render(spec)
        changing = (np.ptp(frames.astype(int), 0).max(-1) > 12).mean()
        assert frames.shape == (12, spec.height, spec.width, 3) and 0.005 < covered < 0.4
        assert changing == 0 if label == "still" else 0.3 * covered < changing < 0.9


@needs_mujoco
@pytest.mark.slow
def test_a_set_is_rendered_once_and_the_same_again(tmp_path):
    options = MotionClip3dOptions(output_dir=str(tmp_path / "a"), train=3, validation=1, test=0)
    assert make_dataset(options).endswith("4 rendered now")
    rows = [json.loads(line) for line in (tmp_path / "a/train/metadata.jsonl").read_text().splitlines()]
    assert [row["label"] for row in rows] == list(LABELS[:3])
    for row in rows:
        with av.open(str(tmp_path / "a/train" / row["file_name"])) as container:
            frames = sum(1 for _ in container.decode(video=0))
        assert frames / row["frame_rate"] == pytest.approx(row["duration"], abs=1e-3)
    before = {path.relative_to(tmp_path / "a"): path.read_bytes() for path in (tmp_path / "a").rglob("clip_*")}
    (tmp_path / "a" / next(iter(before))).unlink()
    assert make_dataset(options).endswith("1 rendered now")
    make_dataset(dataclasses.replace(options, output_dir=str(tmp_path / "b"), workers=2))
    for path, content in before.items():
        assert (tmp_path / "a" / path).read_bytes() == (tmp_path / "b" / path).read_bytes() == content
