"""Accuracy of a checkpoint against amount of motion, object size and noise."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from flux_hf.checkpoints import example_clips
from flux_hf.scripts.experiments.default_checkpoint import curves, report


def test_points_are_of_equally_many_clips_and_of_their_kind():
    labels = ["moves_left"] * 8 + ["approaches"] * 4 + ["still"] * 4
    amount = np.array([*range(8), 1, 2, 3, 4, 0, 0, 0, 0], float)
    columns = {"amount": amount, "object_size": np.full(16, 0.1), "noise": np.arange(16.0)}
    right = np.stack([np.arange(16) % 8 >= 4, np.ones(16, bool)], axis=1)
    found = curves.curves(labels, columns, right, [128, 64], bins=4)
    assert list(found) == ["moves", "grows", "object size", "noise"], "nothing turns"
    moves = found["moves"]
    assert [(point["low"], point["high"], point["median"], point["clips"]) for point in moves] == [
        (0, 1, 0.5, 2), (2, 3, 2.5, 2), (4, 5, 4.5, 2), (6, 7, 6.5, 2)
    ]  # fmt: skip
    assert [point["budgets"][128]["top1"] for point in moves] == [0, 0, 1, 1]
    assert all(point["budgets"][64]["top1"] == 1 for point in moves)
    low, high = moves[0]["budgets"][64]["top1_interval"]
    assert 0.3 < low < 0.4 and high == 1, "two of two"
    (size,) = found["object size"]
    assert (size["median"], size["clips"]) == (pytest.approx(10), 12), "equal values are one point; still has no object"
    assert sum(point["clips"] for point in found["noise"]) == 16


def test_turns_are_in_degrees():
    columns = {"amount": np.array([np.pi / 2]), "object_size": np.array([0.1]), "noise": np.array([0.0])}
    found = curves.curves(["turns_clockwise"], columns, np.array([[True]]), [64], bins=3)
    assert found["turns"][0]["median"] == pytest.approx(90)


@pytest.fixture
def clips(tmp_path):
    """The nine clips of the package as a test split, and their metadata.jsonl."""
    folder = tmp_path / "clips" / "test"
    rows = []
    for number, (label, path) in enumerate(example_clips().items()):
        (folder / label).mkdir(parents=True)
        shutil.copy(path, folder / label / "clip.mp4")
        amount = 0 if label == "still" else 0.1 * number
        rows.append(
            {"file_name": f"{label}/clip.mp4", "label": label, "amount": amount, "object_size": 0.05, "noise": 2}
        )

    def write(*without: str):
        lines = [{name: value for name, value in row.items() if name not in without} for row in rows]
        (folder / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        return folder.parent

    return write


@pytest.mark.long
def test_the_command(clips, tmp_path):
    output, plot = tmp_path / "curves.json", tmp_path / "curves.png"
    command = ["--output", str(output), "--plot", str(plot), "--records_dir", str(tmp_path / "runs"), "--bins", "2"]
    curves.main(["--data", f"nine={clips()}", *command])
    (found,) = json.loads(output.read_text())["data"]
    assert (found["name"], found["num_videos"], found["token_budgets"]) == ("nine", 9, [256, 128, 64])
    counted = {name: [point["clips"] for point in points] for name, points in found["curves"].items()}
    assert counted == {"moves": [2, 2], "grows": [1, 1], "turns": [1, 1], "object size": [8], "noise": [9]}
    assert found["curves"]["noise"][0]["budgets"]["256"]["top1"] == 1.0
    assert Image.open(plot).width > 1000
    lines = report.curves_table(json.loads(output.read_text())).splitlines()
    assert len(lines) == 2 + 8 + 2 and "| 9 | 100.0 (70.1–100.0) |" in lines[9]


def test_a_set_without_the_columns(clips, tmp_path):
    with pytest.raises(ValueError, match="its metadata.jsonl lacks noise, object_size; there are"):
        curves.main(["--data", f"nine={clips('noise', 'object_size')}", "--output", str(tmp_path / "curves.json")])
    assert not (tmp_path / "curves.json").exists()
