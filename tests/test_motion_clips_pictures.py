"""Motion clips from photographs: the motion in the pixels, what depends on the label, files, and wrong input.

The photographs and cut-outs here are drawn; those of the data set come from Debian packages.
"""

import dataclasses
import json

import av
import numpy as np
import pytest
from PIL import Image, ImageDraw

from flux_hf.scripts.experiments.motion_clips_pictures.collect import LISTS, PARTS, CollectOptions, collect
from flux_hf.scripts.experiments.motion_clips_pictures.encoding import CODECS, Encoding, write_clip
from flux_hf.scripts.experiments.motion_clips_pictures.filming import film
from flux_hf.scripts.experiments.motion_clips_pictures.make import PictureClipOptions, main, make_dataset
from flux_hf.scripts.experiments.motion_clips_pictures.motions import LABELS
from flux_hf.scripts.experiments.motion_clips_pictures.pictures import load_pictures, shows_turning
from flux_hf.scripts.experiments.motion_clips_pictures.scenes import Camera, draw_scene

CLEAN = Camera(noise=0, shot_share=0.5, grain=1, gain=1, defocus=0, shutter=0, flicker=0, shake=0)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder like that of collect.py, with two photographs and two cut-outs a split."""
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for split in ("train", "validation", "test"):
        for number in range(2):
            for kind in ("photographs", "cutouts"):
                (folder / split / kind).mkdir(parents=True, exist_ok=True)
            colours = rng.integers(0, 255, (12, 16, 3), np.uint8)
            Image.fromarray(colours).resize((320, 240)).save(folder / split / "photographs" / f"{number}.jpg")
            thing = Image.new("RGBA", (120, 80))
            ImageDraw.Draw(thing).polygon([(0, 0), (119, 30), (60, 79)], fill=(255, 60 * number, 0, 255))
            thing.save(folder / split / "cutouts" / f"{number}.webp", lossless=True)
    return str(folder)


def scene_of(pictures, label, seed):
    return draw_scene(np.random.default_rng(seed), label, load_pictures(pictures, "train"))


def test_only_the_motion_depends_on_the_label(pictures):
    for seed in range(6):
        still = scene_of(pictures, "still", seed)
        for label in LABELS:
            scene = scene_of(pictures, label, seed)
            for field in ("width", "height", "frames", "frame_rate", "camera", "object_size", "margin"):
                assert getattr(scene, field) == getattr(still, field)
            assert scene.background.tobytes() == still.background.tobytes()
            assert [thing.piece.tobytes() for thing in scene.things] == [
                thing.piece.tobytes() for thing in still.things
            ]
            assert (scene.amount == 0) == (label == "still")


def measured(pictures, label, seed):
    """Scene and, from the pixels of first and last frame alone: x, y (short sides), log of scale, radians clockwise
    (modulo 2 pi) by which a thing changes that is green on its left and blue on its right."""
    scene = scene_of(pictures, label, seed)
    thing = scene.things[-1]
    piece = np.zeros((thing.piece.height, thing.piece.width, 4), np.uint8)
    rows, columns = np.mgrid[: piece.shape[0], : piece.shape[1]]
    inside = np.hypot(rows - piece.shape[0] / 2, columns - piece.shape[1] / 2) < min(piece.shape[:2]) / 2 - 2
    piece[inside & (columns < piece.shape[1] / 2)] = 0, 255, 0, 255
    piece[inside & (columns >= piece.shape[1] / 2)] = 0, 0, 255, 255
    middle = np.full_like(thing.x, 200.0)
    thing = dataclasses.replace(
        thing,
        piece=Image.fromarray(piece).convert("RGBa"),
        x=thing.x - thing.x.mean() + middle,
        y=thing.y - thing.y.mean() + middle,
        scale=thing.scale / thing.scale.mean() * 100 / min(piece.shape[:2]),
    )
    short = min(scene.width, scene.height)
    room = dataclasses.replace(
        scene, width=400, height=400, margin=0, background=Image.new("RGB", (400, 400)), camera=CLEAN, things=(thing,)
    )
    frames = list(film(np.random.default_rng(0), dataclasses.replace(room, frames=2)))
    places = []
    for frame in frames:
        weights = frame.astype(np.float64)[..., 1:]
        rows, columns = np.mgrid[:400, :400]
        centres = [(w * columns).sum() / w.sum() + 1j * (w * rows).sum() / w.sum() for w in np.moveaxis(weights, -1, 0)]
        places.append((sum(centres) / 2, np.log(weights.sum()) / 2, np.angle(centres[1] - centres[0])))
    (start, size, angle), (end, last_size, last_angle) = places
    return scene, (end - start) / short, last_size - size, last_angle - angle


@pytest.mark.parametrize("label", LABELS)
def test_pixels_move_as_label_and_amount_say(pictures, label):
    scene, way, growth, turn = measured(pictures, label, LABELS.index(label))
    directions = {"moves_left": -1, "moves_right": 1, "moves_up": -1j, "moves_down": 1j}
    if label == "still":
        assert abs(way) < 1e-3 and abs(growth) < 1e-3 and abs(turn) < 1e-3
    elif label in directions:
        assert abs(way) == pytest.approx(scene.amount, abs=0.01)
        assert abs(np.angle(way / directions[label])) < np.radians(20)
    elif label in ("approaches", "recedes"):
        assert growth == pytest.approx(scene.amount * (1 if label == "approaches" else -1), abs=0.02)
    else:
        expected = scene.amount * (1 if label == "turns_clockwise" else -1)
        assert abs(np.angle(np.exp(1j * (turn - expected)))) < 0.02


def test_a_disc_shows_no_turning_and_a_bar_does():
    disc, bar = Image.new("RGBA", (80, 80)), Image.new("RGBA", (80, 20), (255, 0, 0, 255))
    ImageDraw.Draw(disc).ellipse((0, 0, 79, 79), fill=(255, 0, 0, 255))
    assert shows_turning(bar) and not shows_turning(disc)


@pytest.mark.parametrize("codec", CODECS)
def test_codecs_damage_more_at_their_worst_and_write_the_same_twice(tmp_path, codec):
    rng = np.random.default_rng(0)
    colours = Image.fromarray(rng.integers(0, 255, (24, 32, 3), np.uint8)).resize((128, 96))
    frames = [np.roll(np.asarray(colours), 2 * step, 1) for step in range(8)]
    errors = []
    for quality in (CODECS[codec].best, CODECS[codec].worst):
        encodings = [Encoding("mpeg4", 2, 12), Encoding(codec, quality, 12)]
        paths = [tmp_path / f"{quality}_{number}{CODECS[codec].suffix}" for number in range(2)]
        for path in paths:
            write_clip(path, frames, encodings, 10)
        assert paths[0].read_bytes() == paths[1].read_bytes()
        with av.open(str(paths[0])) as container:
            assert container.streams.video[0].codec_context.name.removeprefix("lib") == codec
            read = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert len(read) == len(frames)
        errors.append(np.mean([np.abs(a.astype(int) - b).mean() for a, b in zip(read, frames, strict=True)]))
    assert errors[0] * 1.2 < errors[1] < 60


@pytest.mark.parametrize("key_frames", [12, 13])
def test_h264_is_the_same_whatever_was_in_memory(tmp_path, key_frames):
    """x264 with AVX-512 wrote other bytes in every run, with one of the two presets."""
    rng, path, written = np.random.default_rng(0), tmp_path / "clip.mp4", set()
    picture = rng.integers(0, 255, (146, 262, 3), np.uint8)
    frames = [np.roll(picture, step, 1) for step in range(12)]
    for _ in range(8):
        rubbish = [np.full(rng.integers(1000, 400000), rng.integers(1, 255), np.uint8) for _ in range(50)]
        del rubbish
        write_clip(path, frames, [Encoding("h264", 25, key_frames)], 20)
        written.add(path.read_bytes())
    assert len(written) == 1


@pytest.mark.long
def test_an_unfinished_data_set_is_completed_to_the_same_files(pictures, tmp_path):
    options = PictureClipOptions(pictures=pictures, output_dir=str(tmp_path / "a"), train=4, validation=0, test=0)
    make_dataset(options)
    rows = [json.loads(line) for line in (tmp_path / "a/train/metadata.jsonl").read_text().splitlines()]
    assert [row["label"] for row in rows] == list(LABELS[:4])
    for row in rows:
        with av.open(str(tmp_path / "a/train" / row["file_name"])) as container:
            frames = [frame for frame in container.decode(video=0)]
            assert container.streams.video[0].average_rate == row["frame_rate"]
        assert len(frames) == round(row["duration"] * row["frame_rate"])
        assert {(frame.width, frame.height) for frame in frames} == {(row["width"], row["height"])}
    before = {path: path.read_bytes() for path in (tmp_path / "a").rglob("*.*")}
    (tmp_path / "a/train/metadata.jsonl").unlink()
    (tmp_path / "a/train" / rows[3]["file_name"]).unlink()
    make_dataset(options)
    assert {path: path.read_bytes() for path in (tmp_path / "a").rglob("*.*")} == before
    with pytest.raises(ValueError, match="seed"):
        make_dataset(dataclasses.replace(options, seed=1))


def test_no_picture_is_listed_twice_and_every_split_has_some():
    for kind, least in (("photographs", 60), ("cutouts", 200)):
        names = (LISTS / f"{kind}.txt").read_text().splitlines()
        assert len(names) == len(set(names)) >= least
    assert set(PARTS) == {"train", "validation", "test"}


def test_missing_pictures_and_wrong_options_are_named(pictures, tmp_path):
    first = (LISTS / "photographs.txt").read_text().splitlines()[0]
    with pytest.raises(FileNotFoundError, match=first):
        collect(CollectOptions(packages=str(tmp_path), output_dir=str(tmp_path / "new")))
    assert not (tmp_path / "new").exists()
    with pytest.raises(FileExistsError, match="output_dir"):
        collect(CollectOptions(packages=str(tmp_path), output_dir=pictures))
    with pytest.raises(FileNotFoundError, match=f"--pictures.*{tmp_path}"):
        make_dataset(PictureClipOptions(pictures=str(tmp_path), output_dir=str(tmp_path / "data")))
    with pytest.raises(ValueError, match="--workers must be at least 1, got 0"):
        main(["--pictures", pictures, "--output_dir", str(tmp_path / "data"), "--workers", "0"])
