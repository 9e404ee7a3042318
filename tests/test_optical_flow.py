"""The optical-flow baseline of the default checkpoint: its statistics, its forests and the command."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Value
from PIL import Image

from flux_hf.checkpoints import example_clips
from flux_hf.scripts.experiments.default_checkpoint import optical_flow, report
from flux_hf.scripts.experiments.default_checkpoint.optical_flow import OpticalFlowOptions, named_folders

pytest.importorskip("cv2", reason="needs OpenCV (extra flow)")
pytest.importorskip("sklearn", reason="needs scikit-learn (extra flow)")

from flux_hf.scripts.experiments.default_checkpoint import flow_baseline  # noqa: E402
from flux_hf.scripts.experiments.default_checkpoint.flow_features import NAMES, flow_features  # noqa: E402

FRAMES, SIDE = 8, 128


def clip(right: float = 0.0, down: float = 0.0, zoom: float = 1.0, turn: float = 0.0) -> np.ndarray:
    """Grey frames of a round piece of one texture in front of another. Between two frames it moves by pixels, grows by
    a factor and turns by degrees, clockwise."""
    rng = np.random.default_rng(0)
    back, piece = (
        Image.fromarray(rng.integers(0, 256, (16, 16), np.uint8)).resize((size, size), Image.BICUBIC)
        for size in (SIDE, 256)
    )
    place = np.linspace(-1, 1, 256)
    disc = Image.fromarray((255 * (place[:, None] ** 2 + place**2 < 1)).astype(np.uint8))
    frames = []
    for number in np.arange(FRAMES) - FRAMES / 2:
        size = round(64 * zoom**number)
        shown, mask = (each.rotate(-turn * number, Image.BICUBIC).resize((size, size)) for each in (piece, disc))
        picture = back.copy()
        picture.paste(shown, tuple(round(SIDE / 2 + way * number - size / 2) for way in (right, down)), mask)
        frames.append(np.asarray(picture))
    return np.stack(frames)


@pytest.mark.parametrize(
    ("motion", "statistic", "expected"),
    [
        ({"right": 3}, "mean right", 3 / SIDE),
        ({"right": -3}, "mean right", -3 / SIDE),
        ({"down": 3}, "mean down", 3 / SIDE),
        ({"zoom": 1.08}, "mean growth", 0.08),
        ({"zoom": 1 / 1.08}, "mean growth", -0.08),
        ({"turn": 8}, "mean turn", np.radians(8)),
        ({"turn": -8}, "mean turn", np.radians(-8)),
    ],
)
def test_statistics_are_what_moved(motion, statistic, expected):
    found = dict(zip(NAMES, flow_features(clip(**motion)), strict=True))
    assert found[statistic] == pytest.approx(expected, rel=0.4)
    rest = {"mean right", "mean down", "mean growth", "mean turn"} - {statistic}
    assert all(abs(found[name]) < 0.25 * abs(expected) for name in rest), found


def test_the_way_does_not_depend_on_the_speed():
    slow, fast = (
        dict(zip(NAMES, flow_features(clip(right=pixels, down=pixels)), strict=True)) for pixels in (1.5, 4.0)
    )
    for found in (slow, fast):
        assert found["way right"] == pytest.approx(0.7, abs=0.05) and found["way down"] == pytest.approx(0.7, abs=0.05)
        assert abs(found["way growth"]) < 0.1 and abs(found["way turn"]) < 0.1
    assert fast["speed"] > 2 * slow["speed"]
    turning = dict(zip(NAMES, flow_features(clip(turn=-4)), strict=True))
    assert turning["way turn"] < -0.8 and turning["radius"] == pytest.approx(0.19, abs=0.05)


def test_nothing_moves_and_everything_moves():
    assert not flow_features(clip()).any()
    shaken = np.stack([np.roll(clip()[0], 2 * number, axis=1) for number in range(FRAMES)])
    found = dict(zip(NAMES, flow_features(shaken), strict=True))
    assert abs(found["mean right"]) < 0.5 / SIDE, "the motion of the whole picture does not count"


def labelled(counts: dict[str, int]) -> Dataset:
    names = list(counts)
    labels = [names.index(name) for name, count in counts.items() for _ in range(count)]
    features = Features({"number": Value("int64"), "label": ClassLabel(names=names)})
    return Dataset.from_dict({"number": range(len(labels)), "label": labels}, features=features)


def test_an_even_part_has_as_many_clips_of_every_class():
    dataset = labelled({"a": 20, "b": 5, "c": 3})
    parts = [flow_baseline.even_part(dataset, "x", options(train_clips=12, seed=seed)) for seed in (0, 0, 1)]
    counts = [[part["label"][:].count(label) for label in range(3)] for part in parts]
    assert all(sorted(found) == [3, 4, 5] and found[2] == 3 for found in counts), "the smallest class is there whole"
    assert parts[0]["number"][:] == parts[1]["number"][:] != parts[2]["number"][:]
    assert flow_baseline.even_part(dataset, "x", options()) is dataset
    with pytest.raises(ValueError, match="--train_clips 29: x has 28 clips in its split train"):
        flow_baseline.even_part(dataset, "x", options(train_clips=29))


def options(**values) -> OpticalFlowOptions:
    return OpticalFlowOptions(train=[], test=[], **values)


def test_a_set_that_is_trained_on_is_also_left_out():
    train = {"a": "", "b": "", "c": ""}
    assert flow_baseline.training_sets(train, "b") == [("a", "b", "c"), ("a", "c")]
    assert flow_baseline.training_sets(train, "d") == [("a", "b", "c")]
    assert flow_baseline.training_sets({"a": ""}, "a") == [("a",)]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["data"], "--train must be data sets as NAME=DIR, got data"),
        (["a=.", "a=.."], "--train must name each data set once, got a twice"),
        (["a=no/such"], "--train a=no/such: there is no folder no/such"),
    ],
)
def test_names_of_data_sets(values, message):
    with pytest.raises(ValueError, match=message):
        named_folders("train", values)


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    """The nine clips of the package, as train and as test split."""
    folder = tmp_path_factory.mktemp("clips")
    for split in ("train", "test"):
        for label, path in example_clips().items():
            (folder / split / label).mkdir(parents=True)
            shutil.copy(path, folder / split / label / "clip.mp4")
    return folder


@pytest.mark.long
def test_the_command(clips, tmp_path, monkeypatch):
    output = tmp_path / "result.json"
    command = ["--train", f"a={clips}", f"b={clips}", "--test", f"a={clips}", f"c={clips}", "--output", str(output)]
    optical_flow.main([*command, "--timed", "2", "--repeats", "1"])
    result = json.loads(output.read_text())
    assert [(found["name"], found["clips"], found["timed"]) for found in result["data"]] == [("a", 9, 2), ("c", 9, 2)]
    fitted = [[row["fitted_on"] for row in found["rows"] if row["fitted_on"]] for found in result["data"]]
    assert fitted == [[["a", "b"], ["b"]], [["a", "b"]]]
    for found in result["data"]:
        flow, checkpoint = (
            [row for row in found["rows"] if bool(row["fitted_on"]) is is_flow] for is_flow in (True, False)
        )
        assert all(row["top1"] == 1.0 for row in flow), "the forest has seen these clips"
        assert [row["token_budget"] for row in checkpoint] == [256, 128, 64, "auto"]
        for row in checkpoint:
            assert row["paired"]["flow"] == pytest.approx(9 * (1 - row["top1"])) and row["paired"]["checkpoint"] == 0
        assert all(row["milliseconds"] > 0 for row in found["rows"])
        assert found["labels"] == dict.fromkeys(example_clips(), 1)
        for row in found["rows"]:
            assert (
                sum(row["right"].values()) == round(9 * row["top1"]) and row["right"].keys() <= found["labels"].keys()
            )
    monkeypatch.setattr(report, "BEFORE", "default")
    rows = [line.split(" | ") for line in report.films_table(result, result).splitlines() if line.startswith("| what ")]
    kinds = [("comes or goes", 4), ("turns", 4), ("crosses the picture", 8), ("is still", 2)]
    assert [row[:2] for row in rows] == [[f"| what {kind} ({clips})", "100.0"] for kind, clips in kinds]
    lines = report.flow_table(result).splitlines()
    assert len(lines) == 2 + 6 + 5 + 2 and "optical flow, fitted on b | – | 100.0 (70.1–100.0)" in lines[3]
