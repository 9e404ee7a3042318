"""Clips cut out of films: what every version of one shows, the tables of the windows, and wrong films."""

import csv
import hashlib
import itertools
from pathlib import Path

import av
import numpy as np
import pytest

from flux_hf import default_checkpoint
from flux_hf.plugin import load_video_classifier
from flux_hf.scripts.experiments.real_films.make import PARTS, TABLES, VERSIONS, RealFilmOptions, cut, windows
from tests.video_files import encode_video

SIDE, FRAMES = 64, 12


def picture(x: float, y: float, half: float, quarter_turns: float) -> np.ndarray:
    """A bar on grey, bright at one end."""
    down, right = np.mgrid[:SIDE, :SIDE]
    angle = quarter_turns * np.pi / 2
    along = (right - x) * np.cos(angle) + (down - y) * np.sin(angle)
    across = (down - y) * np.cos(angle) - (right - x) * np.sin(angle)
    frame = np.full((SIDE, SIDE, 3), 90, np.uint8)
    frame[(abs(along) <= half) & (abs(across) <= half / 3)] = 190
    frame[(along > half / 2) & (along <= half) & (abs(across) <= half / 3)] = 255
    return frame


MOTIONS = {
    "moves_left": lambda t: picture(48 - 32 * t, 32, 10, 0),
    "approaches": lambda t: picture(32, 32, 8 + 14 * t, 0),
    "turns_clockwise": lambda t: picture(32, 32, 22, t - 0.5),
}


def seen(path: Path) -> str:
    """The label of what happens between the first and the last frame of a clip, from its pixels."""
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="gray").astype(float) for frame in container.decode(video=0)]
    assert len(frames) == FRAMES - 2
    down, right = np.mgrid[: frames[0].shape[0], : frames[0].shape[1]]
    found = []
    for frame in (frames[0], frames[-1]):
        bar, end = frame > 140, frame > 225
        place = np.array([right[bar].mean(), down[bar].mean()])
        found.append((place, bar.sum(), np.arctan2(down[end].mean() - place[1], right[end].mean() - place[0])))
    (before, size_before, angle_before), (after, size_after, angle_after) = found
    x, y = after - before
    turn = (angle_after - angle_before + np.pi) % (2 * np.pi) - np.pi
    if max(abs(x), abs(y)) > 12:
        return f"moves_{'right' if x > 0 else 'left'}" if abs(x) > abs(y) else f"moves_{'down' if y > 0 else 'up'}"
    if abs(turn) > 0.6:
        return "turns_clockwise" if turn > 0 else "turns_counterclockwise"
    return "approaches" if size_after > 1.5 * size_before else "recedes" if size_before > 1.5 * size_after else "still"


@pytest.fixture
def tables(tmp_path) -> Path:
    """A folder with a film a motion and the two tables."""
    windows_rows, films_rows = [], []
    for label, at in MOTIONS.items():
        path = tmp_path / f"{label}.mkv"
        path.write_bytes(
            encode_video(
                num_frames=FRAMES,
                width=SIDE,
                height=SIDE,
                container="matroska",
                codec="ffv1",
                pixels="bgr0",
                rate=15,
                picture=lambda frame, height, width, at=at: at(frame / (FRAMES - 1)),
            )
        )
        windows_rows.append([path.name, 1, FRAMES - 2, 2, 1, 61, label])
        films_rows.append([path.name, "bars", "this test", hashlib.sha256(path.read_bytes()).hexdigest()])
    write_table(tmp_path / "windows.csv", ["film", "first", "last", "left", "top", "size", "label"], windows_rows)
    write_table(tmp_path / "films.csv", ["film", "data_set", "source", "sha256"], films_rows)
    return tmp_path


def write_table(path: Path, head: list[str], rows: list[list]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([head, *rows])


def test_every_version_shows_its_label(tables, tmp_path):
    assert "12 clips of 3 films" in cut(
        RealFilmOptions("test", str(tables), str(tmp_path / "out"), list(VERSIONS)), tables
    )
    clips = sorted((tmp_path / "out" / "bars" / "test").glob("*/*.mp4"))
    assert len(clips) == len(MOTIONS) * len(VERSIONS)
    assert [seen(clip) for clip in clips] == [clip.parent.name for clip in clips]
    assert {clip.parent.name for clip in clips} == {
        *("moves_left", "moves_up", "moves_right", "moves_down", "approaches", "recedes"),
        *("turns_clockwise", "turns_counterclockwise"),
    }


def test_a_clip_is_its_window_and_keeps_the_rate(tables, tmp_path):
    cut(RealFilmOptions("test", str(tables), str(tmp_path / "out")), tables)
    with av.open(str(tmp_path / "out/bars/test/moves_left/moves_left-0001-0002-filmed.mp4")) as container:
        assert container.streams.video[0].average_rate == 15
        first = next(container.decode(video=0)).to_ndarray(format="rgb24").astype(float)
    assert first.shape == (60, 60, 3)
    assert abs(first - MOTIONS["moves_left"](1 / (FRAMES - 1))[1:61, 2:62]).mean() < 4


def test_another_film_of_that_name(tables, tmp_path):
    with (tables / "approaches.mkv").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(ValueError, match="approaches.mkv is not the film"):
        cut(RealFilmOptions("test", str(tables), str(tmp_path / "out")), tables)
    (tables / "approaches.mkv").unlink()
    with pytest.raises(FileNotFoundError, match="approaches.mkv is missing; it is from this test"):
        cut(RealFilmOptions("test", str(tables), str(tmp_path / "out")), tables)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("place", [[2, FRAMES, 2, 1, 61], [1, 8, 10, 1, 61], [1, 8, 2, 10, 61], [-1, 8, 2, 1, 61]])
def test_a_window_beyond_its_film(tables, tmp_path, place):
    head = ["film", "first", "last", "left", "top", "size", "label"]
    write_table(tables / "windows.csv", head, [["moves_left.mkv", *place, "moves_left"]])
    with pytest.raises(ValueError, match="reaches beyond its film of 12 frames of 64 x 64"):
        cut(RealFilmOptions("test", str(tables), str(tmp_path / "out")), tables)


@pytest.mark.parametrize("part", PARTS)
def test_the_tables_that_are_shipped(part):
    found, films = windows(TABLES[part]), films_of(part)
    labels = set(load_video_classifier(default_checkpoint()).config.id2label.values())
    assert {window.film for window in found} == set(films)
    assert {window.label for window in found} == labels
    with (TABLES[part] / "films.csv").open(newline="") as file:
        group = {row["film"]: row["data_set"] for row in csv.DictReader(file)}
    for name in set(group.values()):  # a folder with a single label is no labelled data set
        assert len({window.label for window in found if group[window.film] == name}) > 1, name
    assert len({(window.film, window.clip(version)) for window in found for version in VERSIONS}) == 4 * len(found)


@pytest.mark.parametrize("part", [part for part in PARTS if part != "development"])
def test_what_shows_depth_was_measured_to_grow_or_shrink(part):
    deep = {
        (one.film, one.first, one.left): one for one in windows(TABLES[part]) if one.label in ("approaches", "recedes")
    }
    with (TABLES[part] / "depth.csv").open(newline="") as file:
        rows = {(row["film"], int(row["first"]), int(row["left"])): row for row in csv.DictReader(file)}
    assert rows.keys() == deep.keys()
    for place, row in rows.items():
        grown = int(row["height_last"]) / int(row["height_first"])
        assert (grown if deep[place].label == "approaches" else 1 / grown) > 1.2, place
        for x, y in (("x_first", "y_first"), ("x_last", "y_last")):
            window = deep[place]
            assert window.left - 5 <= int(row[x]) <= window.left + window.size + 5
            assert window.top - 5 <= int(row[y]) <= window.top + window.size + 5


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(PARTS, 2)))
def test_no_film_is_in_two_parts(one, other):
    films, others = films_of(one), films_of(other)
    assert not films.keys() & others.keys()
    assert not set(films.values()) & set(others.values())


def films_of(part: str) -> dict[str, str]:
    """The SHA-256 of each film."""
    with (TABLES[part] / "films.csv").open(newline="") as file:
        return {row["film"]: row["sha256"] for row in csv.DictReader(file)}
