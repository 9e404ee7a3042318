"""The renderer of motion clips: real files, known motion, nothing but the motion tells the label."""

import dataclasses
import hashlib
import json
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
import pytest
from scipy import stats

from flux_hf.data import load_video_dataset
from flux_hf.scripts.experiments.motion_clips import (
    LABELS,
    SPLITS,
    MotionClipOptions,
    make_dataset,
    render_clip,
)
from flux_hf.scripts.experiments.motion_clips.dataset import clip_spec
from flux_hf.scripts.experiments.motion_clips.encoding import write_video
from flux_hf.scripts.experiments.motion_clips.make import main
from flux_hf.scripts.experiments.motion_clips.rendering import build_scene, place_sprite
from flux_hf.scripts.experiments.motion_clips.shapes import draw_outline
from flux_hf.scripts.experiments.motion_clips.specification import ClipSpec, draw_spec
from flux_hf.scripts.experiments.motion_clips.trajectories import EASINGS, progress

COUNTS = {"train": 18, "validation": 9, "test": 0}


@pytest.fixture(scope="module")
def small_dataset(tmp_path_factory):
    options = MotionClipOptions(str(tmp_path_factory.mktemp("clips") / "one"), seed=3, num_workers=1, **COUNTS)
    make_dataset(options, progress=False)
    return options


def digests(folder):
    """Digest of every file in the folder by relative path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def decode(path):
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def main_masks(spec):
    """Alpha (0 to 1) of the main object in the first, middle and last frame, on a canvas three short sides wide.

    The central square of the frame is the middle ninth of the canvas.
    """
    scene = build_scene(spec, np.random.default_rng([*spec.entropy, 2]))
    short = spec.short_side
    shift_x, shift_y = 1.5 * short - spec.width / 2, 1.5 * short - spec.height / 2
    masks = []
    for index in (0, spec.num_frames // 2, spec.num_frames - 1):
        canvas = np.zeros((3 * short, 3 * short))
        left, top, image = place_sprite(scene.main, index, 3 * short, 3 * short, shift_x, shift_y)
        alpha = np.asarray(image)[..., 3] / 255
        canvas[top : top + alpha.shape[0], left : left + alpha.shape[1]] = alpha
        masks.append(canvas)
    return masks


def moments(mask):
    """Centre x, centre y, area and direction of the long axis (radians, clockwise on the screen)."""
    rows, columns = np.indices(mask.shape)
    area = mask.sum()
    x, y = (mask * columns).sum() / area, (mask * rows).sum() / area
    spread_x = (mask * (columns - x) ** 2).sum()
    spread_y = (mask * (rows - y) ** 2).sum()
    spread_xy = (mask * (columns - x) * (rows - y)).sum()
    return x, y, area, 0.5 * math.atan2(2 * spread_xy, spread_x - spread_y)


def assert_means_label(label, row):
    """The ground truth in a metadata row says what the label says, and little else."""
    shift = max(abs(row["dx"]), abs(row["dy"]))
    if label == "still":
        assert row["dx"] == row["dy"] == row["log_scale"] == row["angle"] == 0
    elif label.startswith("moves_"):
        along = {"left": -row["dx"], "right": row["dx"], "up": -row["dy"], "down": row["dy"]}[label.split("_")[1]]
        assert 0.28 <= along <= 0.65 and along == shift
        assert abs(row["log_scale"]) <= 0.08 and abs(row["angle"]) <= math.radians(10) + 1e-4
    elif label in ("approaches", "recedes"):
        growth = row["log_scale"] if label == "approaches" else -row["log_scale"]
        assert math.log(1.7) - 1e-4 <= growth <= math.log(3) + 1e-4
        assert shift <= 0.06 and abs(row["angle"]) <= math.radians(10) + 1e-4
    else:
        angle = row["angle"] if label == "turns_clockwise" else -row["angle"]
        assert math.radians(70) - 1e-4 <= angle <= math.radians(200) + 1e-4
        assert shift <= 0.06 and abs(row["log_scale"]) <= 0.08


@pytest.mark.parametrize("source", ["synthetic", "photos"])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_same_seed_gives_same_file(tmp_path, source, suffix):
    if source == "photos":
        pytest.importorskip("sklearn")
    arguments = {"label": "moves_up", "source": source, "hardness": 0.8}
    first = render_clip(tmp_path / f"a{suffix}", seed=11, **arguments)
    second = render_clip(tmp_path / f"b{suffix}", seed=11, **arguments)
    render_clip(tmp_path / f"c{suffix}", seed=12, **arguments)
    contents = [(tmp_path / f"{name}{suffix}").read_bytes() for name in "abc"]
    assert contents[0] == contents[1] != contents[2]
    assert {**first, "file_name": second["file_name"]} == second


@pytest.mark.parametrize("codec", ["h264", "mpeg4", "vp8", "vp9", "mjpeg"])
def test_a_busy_machine_gives_the_same_file(tmp_path, codec):
    """Six encodings compete for the processors, at a frame rate that leaves the encoder little time for a frame."""
    scene = np.random.default_rng(0).integers(256, size=(400, 520, 3), dtype=np.uint8)
    frames = [scene[2 * index :][:360, 2 * index :][:, :480] for index in range(12)]
    form = {"codec": codec, "quality": 0.5, "frame_rate": 60, "width": 480, "height": 360}

    def encode(number):
        path = tmp_path / f"{number}.mkv"
        write_video(path, frames, suffix=".mkv", **form)
        return path.read_bytes()

    with ThreadPoolExecutor(6) as pool:
        assert len(set(pool.map(encode, range(6)))) == 1


@pytest.mark.parametrize("label", LABELS)
def test_file_is_what_its_metadata_says(tmp_path, label):
    row = render_clip(tmp_path / "clip.mp4", label=label, seed=(5, LABELS.index(label)))
    frames = decode(tmp_path / "clip.mp4")
    assert frames.shape == (row["num_frames"], row["height"], row["width"], 3)
    with av.open(str(tmp_path / "clip.mp4")) as container:
        assert float(container.streams.video[0].average_rate) == pytest.approx(row["fps"], rel=1e-4)
        assert container.streams.video[0].codec_context.name == row["codec"]
    assert row["file_name"] == "clip.mp4" and row["label"] == label
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]
    assert_means_label(label, row)


@pytest.mark.parametrize("label", LABELS)
def test_object_moves_as_recorded(label):
    for index in range(4):
        spec = draw_spec(label, (21, index))
        row = spec.metadata()
        assert_means_label(label, row)
        first, _, last = (moments(mask) for mask in main_masks(spec))
        short = spec.short_side
        assert (last[0] - first[0]) / short == pytest.approx(row["dx"], abs=0.015)
        assert (last[1] - first[1]) / short == pytest.approx(row["dy"], abs=0.015)
        assert math.log(last[2] / first[2]) / 2 == pytest.approx(row["log_scale"], abs=0.04)
        axis_error = (last[3] - first[3] - row["angle"] + math.pi / 2) % math.pi - math.pi / 2
        assert abs(axis_error) < 0.15


@pytest.mark.parametrize("label", ["still", "moves_left", "moves_right", "moves_up", "moves_down"])
def test_motion_is_in_the_pixels(tmp_path, label):
    """Where the last frame differs from the first, the object has arrived; seen in a decoded calm clip."""
    row = render_clip(tmp_path / "clip.mp4", label=label, seed=41, hardness=0)
    frames = decode(tmp_path / "clip.mp4").astype(float)
    scene = np.median(frames, axis=0)
    present = [np.abs(frame - scene).max(axis=-1) > 40 for frame in (frames[0], frames[-1])]
    if label == "still":
        assert max(mask.mean() for mask in present) < 0.005
        return
    (first_y, first_x), (last_y, last_x) = (np.argwhere(mask).mean(axis=0) for mask in present)
    short = min(row["width"], row["height"])
    assert (last_x - first_x) / short == pytest.approx(row["dx"], abs=0.15)
    assert (last_y - first_y) / short == pytest.approx(row["dy"], abs=0.15)


@pytest.mark.parametrize("easing", EASINGS)
def test_progress_runs_from_start_to_end(easing):
    share = progress(50, easing, 0.2, 0.1)
    assert share[0] == 0 and share[-1] == 1 and np.all(np.diff(share) >= 0)
    assert share[9] == 0 and share[-4] == 1


def test_clip_is_the_same_for_every_label_but_for_its_motion():
    different = {"label", "motion"}
    for seed in range(20):
        specs = [dataclasses.asdict(draw_spec(label, (seed, 1))) for label in LABELS]
        kept = [{name: value for name, value in spec.items() if name not in different} for spec in specs]
        assert all(spec == kept[0] for spec in kept)


def test_scene_and_middle_position_are_the_same_for_every_label():
    specs = [dataclasses.replace(draw_spec(label, (8, 2)), easing="linear", num_frames=21) for label in LABELS]
    specs = [dataclasses.replace(spec, pause_start=0.0, pause_end=0.0) for spec in specs]
    backgrounds = [build_scene(spec, np.random.default_rng([8, 2, 2])).background for spec in specs]
    assert all(np.array_equal(background, backgrounds[0]) for background in backgrounds)
    middles = [main_masks(spec)[1] for spec in specs]
    assert all(np.array_equal(middle, middles[0]) for middle in middles)


def test_labels_are_balanced_and_independent_of_everything_drawn():
    options = MotionClipOptions("unused", seed=1)
    specs = [clip_spec(options, "train", index) for index in range(2007)]
    labels = [spec.label for spec in specs]
    assert {labels.count(label) for label in LABELS} == {2007 // 9}
    categories = {"frame_rate", "codec", "suffix", "object_shape", "object_texture", "background_texture", "easing"}
    p_values = {}
    for field in dataclasses.fields(ClipSpec):
        values = [getattr(spec, field.name) for spec in specs]
        if field.name in ("label", "motion", "entropy", "source"):
            continue
        if field.name in categories:
            names = sorted(set(values))
            table = np.zeros((len(LABELS), len(names)))
            for label, value in zip(labels, values, strict=True):
                table[LABELS.index(label), names.index(value)] += 1
            p_values[field.name] = stats.chi2_contingency(table).pvalue
        elif len(set(values)) > 1:
            groups = [[value for name, value in zip(labels, values, strict=True) if name == label] for label in LABELS]
            p_values[field.name] = stats.kruskal(*groups).pvalue
    assert min(p_values.values()) > 0.05 / len(p_values), p_values


def test_drawn_values_keep_their_ranges():
    options = MotionClipOptions("unused", seed=2, min_hardness=0.25, max_hardness=0.5)
    for index in range(500):
        spec = clip_spec(options, "test", index)
        assert 96 <= spec.short_side <= 480 and 0.55 < spec.width / spec.height < 2.4
        assert 0.95 <= spec.num_frames / float(spec.frame_rate) <= 6.1 and 10 <= spec.frame_rate <= 60
        assert spec.codec != "h264" or spec.width % 2 == spec.height % 2 == 0
        assert 0.25 <= spec.hardness <= 0.5 and spec.shake <= 0.005


def test_object_stays_in_the_central_square():
    options = MotionClipOptions("unused", seed=4)
    for index in range(90):
        spec = clip_spec(options, "train", index)
        if spec.width * spec.height > 60_000:
            continue
        short = spec.short_side
        for mask in main_masks(spec):
            assert mask[short : 2 * short, short : 2 * short].sum() > 0.6 * mask.sum(), index


def test_distractors_are_smaller_than_the_object():
    for index in range(12):
        spec = dataclasses.replace(draw_spec("approaches", (9, index), min_hardness=1.0), num_distractors=2)
        scene = build_scene(spec, np.random.default_rng([9, index, 2]))
        areas = {sprite is scene.main: np.asarray(sprite.image)[..., 3].sum() for sprite in scene.sprites}
        assert areas[False] < 0.25 * areas[True]


@pytest.mark.long
def test_number_of_workers_does_not_matter(small_dataset, tmp_path):
    options = dataclasses.replace(small_dataset, output_dir=str(tmp_path / "two"), num_workers=2)
    root = make_dataset(options, progress=False)
    first = digests(Path(small_dataset.output_dir))
    assert digests(root) == first
    assert len(first) == sum(COUNTS.values()) + 3


def test_unfinished_data_set_is_finished(small_dataset, tmp_path):
    options = dataclasses.replace(small_dataset, output_dir=str(tmp_path / "resumed"), train=9, validation=0)
    root = make_dataset(options, progress=False)
    before = digests(root)
    clips = sorted(root.rglob("clip_*"))
    times = {path: path.stat().st_mtime_ns for path in clips[1:]}
    clips[0].unlink()
    (root / "train" / "metadata.jsonl").unlink()
    cut_off = clips[0].with_name(f".{clips[0].stem}.123.partial{clips[0].suffix}")
    cut_off.write_bytes(b"cut off by a kill")
    make_dataset(options, progress=False)
    assert len(load_video_dataset(root, "train")) == 9
    cut_off.unlink()
    assert digests(root) == before
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_loads_as_videofolder_with_class_labels(small_dataset):
    root = make_dataset(small_dataset, progress=False)
    train = load_video_dataset(root, "train", label_names=LABELS)
    assert (len(train), len(load_video_dataset(root, "validation", label_names=LABELS))) == (18, 9)
    for index, row in enumerate(train):
        label = LABELS[row["label"]]
        assert row["video"]["path"].split("/")[-2] == label and row["index"] == index
        assert_means_label(label, row)
    assert sorted(train["label"]) == sorted(2 * list(range(len(LABELS))))


def test_metadata_lists_every_file(small_dataset):
    for split in SPLITS[:2]:
        folder = make_dataset(small_dataset, progress=False) / split
        rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
        files = {str(path.relative_to(folder)) for path in folder.glob("*/clip_*")}
        assert {row["file_name"] for row in rows} == files and len(rows) == COUNTS[split]


def test_other_options_are_refused(small_dataset):
    with pytest.raises(ValueError, match=r"other options \(seed: 3 there, 4 now\)"):
        make_dataset(dataclasses.replace(small_dataset, seed=4), progress=False)


def test_only_the_labels_asked_for_are_rendered(tmp_path):
    labels = ["turns_clockwise", "turns_counterclockwise"]
    options = MotionClipOptions(str(tmp_path / "turns"), 6, 0, 0, labels=labels, num_workers=1)
    make_dataset(options, progress=False)
    assert sorted(folder.name for folder in (tmp_path / "turns" / "train").iterdir() if folder.is_dir()) == labels
    assert [len(list((tmp_path / "turns" / "train" / label).iterdir())) for label in labels] == [3, 3]
    with pytest.raises(ValueError, match="labels"):
        make_dataset(dataclasses.replace(options, labels=None), progress=False)


@pytest.mark.parametrize("kind", ["ellipse", "box"])
def test_max_tilt_bounds_the_direction_of_the_long_axis(kind):
    rng = np.random.default_rng(0)
    tilts = []
    for _ in range(60):
        x, y = draw_outline(rng, kind, 2.0, max_tilt=20).T
        axis = np.linalg.eigh(np.cov(x, y))[1][:, 1]
        tilts.append(np.degrees(np.arctan2(axis[1], axis[0]) + np.pi / 2) % 180 - 90)
    assert 15 < np.abs(tilts).max() <= 20.5


def test_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "holiday.txt").write_text("mine")
    with pytest.raises(ValueError, match="not empty"):
        make_dataset(MotionClipOptions(str(tmp_path), train=1), progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.txt"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train": -1}, "clip counts"),
        ({"train": 0, "validation": 0, "test": 0}, "clip counts"),
        ({"labels": ["jumps"]}, r"labels must be some of still, .*got \['jumps'\]"),
        ({"labels": []}, "labels must be some of"),
        ({"seed": -1}, "seed"),
        ({"num_workers": 0}, "num_workers"),
        ({"source": "cartoon"}, "unknown source 'cartoon'"),
        ({"min_hardness": 0.7, "max_hardness": 0.2}, "hardness"),
        ({"max_hardness": 1.5}, "hardness"),
        ({"max_tilt": 200.0}, "max_tilt must be from 0 to 180"),
    ],
)
def test_bad_options_are_named(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        make_dataset(MotionClipOptions(str(tmp_path / "clips"), **change), progress=False)
    assert not (tmp_path / "clips").exists()


def test_render_clip_names_what_it_cannot_do(tmp_path):
    with pytest.raises(ValueError, match="unknown label 'jumps'"):
        render_clip(tmp_path / "clip.mp4", label="jumps", seed=0)
    with pytest.raises(ValueError, match=r"cannot write '\.webm'"):
        render_clip(tmp_path / "clip.webm", label="still", seed=0)


def test_command(tmp_path, capsys):
    arguments = ["--output_dir", str(tmp_path / "clips"), "--train", "2", "--validation", "0", "--test", "1"]
    main([*arguments, "--num_workers", "1", "--max_hardness", "0.5"])
    assert capsys.readouterr().out.strip() == str(tmp_path / "clips")
    assert len(list((tmp_path / "clips" / "train").glob("*/clip_*"))) == 2
    with pytest.raises(ValueError, match="other options"):
        main([*arguments, "--seed", "1"])
