"""The manipulation data set: what is to be rendered, and, where Meta-World is installed, that it is."""

import json
from collections import Counter
from importlib.util import find_spec

import av
import numpy as np
import pytest

from flux_hf.scripts.experiments.manipulation_clips.cameras import TEST_SECTORS, TRAINING_SECTORS
from flux_hf.scripts.experiments.manipulation_clips.frames import at_steps, part_of_travel
from flux_hf.scripts.experiments.manipulation_clips.make import ManipulationClipOptions, clips_of, make_dataset
from flux_hf.scripts.experiments.manipulation_clips.tasks import OPPOSITE, TASKS

needs_metaworld = pytest.mark.skipif(find_spec("metaworld") is None, reason="needs metaworld and mujoco")


def test_both_tasks_of_a_pair_are_made_of_the_same_episodes_tasks():
    clips = clips_of(ManipulationClipOptions(output_dir="data", train=10, validation=2, test=4))
    played = {label: Counter(clip.played for clip in clips if clip.label == label) for label in TASKS}
    assert len(TASKS) == 28
    for label in TASKS:
        assert played[label] == played[OPPOSITE[label]] == {label: 8, OPPOSITE[label]: 8}


def test_no_test_camera_stands_in_a_sector_of_the_other_splits():
    for low, high in TEST_SECTORS:
        assert all(high + 4 < first or last + 4 < low for first, last in TRAINING_SECTORS)


def test_an_unknown_task_is_named():
    with pytest.raises(ValueError, match="door-slam"):
        clips_of(ManipulationClipOptions(output_dir="data", tasks=["door-slam"]))


def test_a_clip_shows_the_part_of_the_way_that_is_asked_for():
    travel = np.array([0.0, 0.0, 0.01, 0.01, 0.06, 0.1, 0.1, 0.2, 0.2])
    steps = part_of_travel(travel, 0.05, 0.25, 16)
    assert len(steps) == 16 and np.ptp(np.diff(steps)) < 1e-9
    shown = at_steps(travel[:, None], steps)[:, 0]
    assert shown[0] == pytest.approx(0.05 * 0.2) and shown[-1] == pytest.approx(0.3 * 0.2)
    assert (steps[0], steps[-1]) == pytest.approx((3.0, 4.0))  # not while it stands still before
    assert len(part_of_travel(np.linspace(0, 1, 101), 0.1, 0.4, 16)) == 41


@needs_metaworld
@pytest.mark.slow
def test_clips_are_rendered_once_and_as_they_are_listed(tmp_path):
    tasks = ["drawer-close", "drawer-open"]
    options = ManipulationClipOptions(output_dir=str(tmp_path), train=2, validation=0, test=0, tasks=tasks, workers=1)
    make_dataset(options)
    rows = [json.loads(line) for line in (tmp_path / "clips.jsonl").read_text().splitlines()]
    assert Counter((row["label"], row["played"]) for row in rows) == Counter((a, b) for a in tasks for b in tasks)
    for row in rows:
        with av.open(str(tmp_path / row["file"])) as container:
            assert sum(1 for _ in container.decode(video=0)) == row["frames"] >= 16
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.mp4")}
    next(iter(before)).unlink()
    assert make_dataset(options).endswith("1 rendered now")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.mp4")} == before
