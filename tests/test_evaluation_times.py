"""Evaluation and Token Optimization of data sets whose rows are parts of videos, between a start and an end time."""

import hashlib
import json

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Value

from flux_hf import FluxVideoProcessor, FluxViTConfig, FluxViTForVideoClassification
from flux_hf.data import load_video_dataset
from flux_hf.data.video_column import VIDEO, video_at
from flux_hf.evaluation import evaluate
from flux_hf.evaluation.scoring import Arm, score_videos
from flux_hf.processing.frame_sampling_fluxvit import SeekableMetadata, cut
from flux_hf.processing.grid_fluxvit import Grid
from flux_hf.processing.views_fluxvit import Views, frames_to_decode, read_views
from flux_hf.provenance import file_list_hash
from flux_hf.token_optimization import search_grids
from flux_hf.token_optimization.candidates import grid_cost
from tests import video_datasets
from tests.tiny_models import PATCHES_OF_8
from tests.video_files import encode_video, read_numbers

LABELS = ["dark", "light"]
MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
STD = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
CONFIG = FluxViTConfig(
    **PATCHES_OF_8,
    head_token_budgets=[32],
    id2label=dict(enumerate(LABELS)),
    label2id={name: index for index, name in enumerate(LABELS)},
)


def rows_of(paths, labels, **times) -> Dataset:
    features = {"video": VIDEO, "label": ClassLabel(names=LABELS)}
    features |= {name: Value("float64") for name in times}
    return Dataset.from_dict(
        {"video": [video_at(str(path)) for path in paths], "label": labels, **times}, features=Features(features)
    )


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """Two seconds at 25 frames a second: dark, then light."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    shade = lambda number, height, width: np.full((height, width, 3), 40 if number < 25 else 210, np.uint8)  # noqa: E731
    path.write_bytes(encode_video(50, height=48, width=48, picture=shade))
    return path


@pytest.fixture(scope="module")
def counting(tmp_path_factory):
    """Frames 0 to 59 at 25 a second, each showing its number, a key frame every 10."""
    path = tmp_path_factory.mktemp("counting") / "counting.mp4"
    path.write_bytes(encode_video(60, height=48, width=48, options={"g": "10", "sc_threshold": "0"}))
    return path


@pytest.fixture
def model():
    torch.manual_seed(0)
    return FluxViTForVideoClassification(CONFIG).eval()


@pytest.fixture
def processor():
    return FluxVideoProcessor(patch_size=8, grids={32: (4, 48)})


def by_brightness(model, pixels, budget):
    """Nearly sure of "light" or "dark" when all frames are so, undecided for half of each."""
    light = ((pixels * STD + MEAN) > 0.5).float().mean((1, 2, 3, 4))
    return 10 * torch.stack([1 - light, light], 1)


def scored(dataset, model, processor, views=Views()) -> list[dict]:  # noqa: B008 (frozen)
    options = {"label_ids": [0, 1], "batch_size": 2, "num_workers": 0}
    arms = [Arm(32, forward=by_brightness)]
    return list(score_videos(dataset, list(range(len(dataset))), model, processor, arms, views, **options))


@pytest.mark.parametrize("views", [Views(), Views(4, 3), Views(2, 1, "ticks")])
@pytest.mark.parametrize("mode", ["fast", "exact"])
def test_two_parts_of_one_video(film, model, processor, views, mode):
    processor.decoding = mode
    dataset = rows_of([film] * 3, [0, 1, 1], start=[None, 1.0, None], end=[1.0, None, None])
    dark, light, whole = (record["arms"][0] for record in scored(dataset, model, processor, views))
    assert dark["top"][0] == 0 and dark["label_score"] > 0.999
    assert light["top"][0] == 1 and light["label_score"] > 0.999
    assert 0.2 < whole["label_score"] < 0.8


def numbers_seen(path, processor, frames: int, views: Views, **times) -> list[list[int]]:
    (framing,), pixels, _ = read_views(str(path), processor, [(None, Grid(frames, 48))], views, **times)
    pictures = (pixels[framing] * STD + MEAN).mul(255).permute(0, 1, 3, 4, 2)
    return [read_numbers(clip.numpy()) for clip in pictures]


@pytest.mark.parametrize("views", [Views(), Views(4), Views(3, 1, "ticks")])
def test_clips_are_those_of_the_part_alone(counting, processor, tmp_path, views):
    """Frames 15 to 40 of the video look like a video of 26 frames: the same numbers, 15 later."""
    processor.decoding = "exact"
    part = tmp_path / "part.mp4"
    part.write_bytes(encode_video(26, height=48, width=48))
    alone = numbers_seen(part, processor, 4, views)
    assert len(alone) == views.num_clips
    assert numbers_seen(counting, processor, 4, views, start=0.6, end=1.64) == (15 + np.array(alone)).tolist()


def test_fast_decoding_takes_key_frames_of_the_part():
    film = SeekableMetadata(total_num_frames=900, fps=25.0, duration=36.0, key_frames=list(range(0, 900, 50)))
    first, part = cut(film, "film", 3.0, 35.0)
    assert (first, part.total_num_frames, part.key_frames[:3], part.key_frames[-1]) == (75, 800, [-25, 25, 75], 775)
    assert frames_to_decode(part, 4, Views(), "fast").tolist() == [[75, 275, 475, 675]]
    assert frames_to_decode(part, 4, Views(), "exact").tolist() == [[99, 299, 499, 698]]


def test_grids_fit_the_part(counting, model, processor):
    processor.fit_source = True
    dataset = rows_of([counting] * 2, [0, 1], start=[0.0, None], end=[0.12, None])
    short, long = (record["arms"][0]["grid"] for record in scored(dataset, model, processor))
    assert (short[0], long[0]) == (3, 4)


def test_a_part_outside_of_the_video_is_unreadable(tmp_path, model, processor):
    folder = video_datasets.coin(tmp_path / "coin", {"test": 3})
    database = json.loads((folder / "COIN.json").read_text())
    for kind, entry in enumerate(database["database"].values()):
        entry["class"] = LABELS[kind % 2]
    database["database"]["test001"] |= {"start": 7.0, "end": 9.0}
    (folder / "COIN.json").write_text(json.dumps(database))
    dataset = load_video_dataset(folder, "test")
    result = evaluate(dataset, model, processor, [32], num_clips=2)
    assert result["num_videos"] == 2
    (bad,) = result["unreadable"]
    assert bad["video"].endswith("test001.mp4")
    assert "it has no frame between 7.0 s and 9.0 s (30 frames at 25.00 a second)" in bad["reason"]


def test_going_on_with_other_times_is_refused(film, model, processor, tmp_path):
    cuts = {"start": [0.0, 1.0], "end": [1.0, 2.0]}
    options = {"records_dir": tmp_path / "records"}
    first = evaluate(rows_of([film] * 2, [0, 1], **cuts), model, processor, [32], **options)
    again = evaluate(rows_of([film] * 2, [0, 1], **cuts), model, processor, [32], **options)
    assert again["speed"]["videos"] == 0 and again["budgets"] == first["budgets"]
    moved = rows_of([film] * 2, [0, 1], **cuts | {"start": [0.0, 1.5]})
    with pytest.raises(ValueError, match="holds results of other options .files: "):
        evaluate(moved, model, processor, [32], **options)
    with pytest.raises(ValueError, match="holds results of other options .files: "):
        evaluate(rows_of([film] * 2, [0, 1]), model, processor, [32], **options)


def test_the_hash_without_times_is_what_results_store(film):
    line = json.dumps(["film.mp4", film.stat().st_size, 1]) + "\n"
    stored = hashlib.sha256(line.encode()).hexdigest()
    assert file_list_hash(rows_of([film], [1])) == stored
    assert file_list_hash(rows_of([film], [1], start=[None], end=[None])) == stored
    timed = [file_list_hash(rows_of([film], [1], start=[start], end=[1.0])) for start in (None, 0.0, 0.5)]
    assert len({stored, *timed}) == 4


def test_the_search_looks_at_the_parts(film, model, processor):
    dataset = rows_of([film] * 4, [0, 1, 0, 1], start=[0.0, 1.0, 0.2, 1.2], end=[1.0, 2.0, 0.8, 1.8])
    result = search_grids(dataset, model, processor, [32], [2, 4], [32, 48], rounds=2, forward=by_brightness)
    for entry in result["budgets"][32]["grids"]:
        assert entry["accuracy"] == 1 and entry["label_score"] > 0.999


def test_latency_is_that_of_the_parts(film, model, processor):
    """A part outside of the video is left out like a video that cannot be read."""
    outside = rows_of([film], [0], start=[5.0], end=[6.0])
    with pytest.raises(ValueError, match="no video of the calibration split can be read"):
        grid_cost("latency_ms", model, processor, 32, Grid(4, 48), outside)
    inside = rows_of([film] * 2, [0, 1], start=[5.0, 1.0], end=[6.0, 2.0])
    assert grid_cost("latency_ms", model, processor, 32, Grid(4, 48), inside) > 0
