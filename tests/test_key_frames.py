"""Decoding of key frames alone: the grid follows the film, each frame is one that a plain decode calls a key frame."""

import io

import av
import numpy as np
import pytest
import torch
from transformers.utils import logging

from flux_hf import FluxVideoClassificationPipeline, FluxVideoProcessor, FluxViTForVideoClassification
from flux_hf.data import load_video_dataset
from flux_hf.evaluation import evaluate
from flux_hf.evaluation.report import markdown_table
from flux_hf.processing.frame_sampling_fluxvit import (
    SeekableMetadata,
    middles_unless_cheaper,
    sample_segments,
    segment_bounds,
    segment_middles,
    segments_with_key_frames,
)
from flux_hf.processing.grid_fluxvit import Grid, with_frames
from flux_hf.processing.video_decoding_fluxvit import read_video
from flux_hf.processing.views_fluxvit import Views, clip_frames, read_views
from flux_hf.scripts import classify as classify_command
from flux_hf.scripts import optimize_tokens as optimize_command
from tests.video_files import encode_video, read_numbers

EVERY_25 = {"g": "25", "sc_threshold": "0"}


def film(total: int, key_frames, damaged=()) -> SeekableMetadata:
    return SeekableMetadata(total_num_frames=total, key_frames=list(key_frames), damaged_frames=list(damaged))


def following(most: int):
    """What is chosen of a film for a grid of `most` frames."""

    def choose(metadata):
        return sample_segments(metadata, segments_with_key_frames(metadata, most) or most, "keyframes")

    return choose


FOLLOWED = {
    "one in each segment": (1500, range(0, 1500, 125), 8, [125, 250, 500, 625, 875, 1000, 1250, 1375]),
    "six for eight segments": (1500, range(0, 1500, 250), 8, [0, 250, 500, 750, 1000, 1250]),
    "five for eight": (1500, range(0, 1500, 300), 8, [300, 600, 900, 1200]),
    "every frame": (301, range(301), 4, [37, 112, 187, 262]),
    "some near each other": (800, [0, 1, 2, 3, 190, 200, 210, 410, 430, 777], 12, [190, 210, 430, 777]),
    "an odd grid that they fill": (500, range(0, 500, 100), 5, [0, 100, 200, 300, 400]),
    "a part that begins between them": (400, [-30, 70, 170, 270, 370], 8, [70, 170, 270, 370]),
}


@pytest.mark.parametrize("total, key_frames, most, expected", FOLLOWED.values(), ids=FOLLOWED)
def test_as_many_frames_as_segments_with_a_key_frame(total, key_frames, most, expected):
    taken = following(most)(film(total, key_frames))
    assert taken.tolist() == expected and set(expected) <= set(key_frames)


NOT_FOLLOWED = {
    "three": (1500, [0, 500, 1000]),
    "one": (1500, [0]),
    "none known": (1500, []),
    "many, but in one half": (1500, range(0, 700, 10)),
    "fewer frames than four": (3, [0, 1, 2]),
}


@pytest.mark.parametrize("total, key_frames", NOT_FOLLOWED.values(), ids=NOT_FOLLOWED)
def test_too_few_are_read_as_with_fast(total, key_frames):
    metadata = film(total, key_frames)
    if total < 4:
        assert following(2)(metadata).tolist() == sample_segments(metadata, 2, "fast").tolist()
        return
    assert segments_with_key_frames(metadata, 8) is None
    assert following(8)(metadata).tolist() == middles_unless_cheaper(total, 8, list(key_frames)).tolist()


@pytest.mark.parametrize("seed", range(30))
def test_no_larger_number_of_segments_would_do(seed):
    draw = np.random.default_rng(seed)
    total, most, tubelet = int(draw.integers(16, 400)), int(draw.choice([8, 12, 16])), int(draw.choice([1, 2]))
    keys = np.flatnonzero(draw.random(total) < draw.choice([0.03, 0.1, 0.4])).tolist()
    damaged = [n for n in range(total) if draw.random() < 0.2]

    def filled(count):
        bounds = zip(*segment_bounds(total, count), strict=True)
        return all(any(a <= k <= b and k not in damaged for k in keys) for a, b in bounds)

    counts = [count for count in range(4, most + 1) if count == most or count % (2 * tubelet) == 0]
    metadata = film(total, keys, damaged)
    assert segments_with_key_frames(metadata, most, tubelet) == max(filter(filled, counts), default=None)
    if (frames := segments_with_key_frames(metadata, most, tubelet)) is not None:
        taken = sample_segments(metadata, frames, "keyframes")
        first, last = segment_bounds(total, frames)
        assert (first <= taken).all() and (taken <= last).all()
        assert set(taken.tolist()) <= set(keys) - set(damaged)


def test_the_size_grows_until_the_pool_is_as_large_and_no_further():
    for frames in (4, 6, 8):
        grown = with_frames(Grid(8, 224), frames, patch_size=14)
        assert grown.frames == frames and grown.size % 14 == 0
        assert frames * (grown.size // 14) ** 2 >= 8 * 16 * 16 > frames * (grown.size // 14 - 1) ** 2
    assert with_frames(Grid(8, 224), 4, 250, patch_size=14) == Grid(4, 252)
    assert with_frames(Grid(8, 224), 4, 100, patch_size=14) == Grid(4, 224)


ENCODERS = {
    "mp4, h264": {"options": {"bf": "3", **EVERY_25}},
    "mp4, h264, scenecut": {"options": {"x264-params": "keyint=25:min-keyint=5:scenecut=80"}},
    "mp4, h264, open GOP": {"options": {"x264-params": "open-gop=1:keyint=25:min-keyint=25:scenecut=0:bframes=3"}},
    "mp4, hevc": {"codec": "libx265", "options": {"x265-params": "log-level=none:keyint=25:min-keyint=25:scenecut=0"}},
    "webm, vp9": {
        "container": "webm",
        "codec": "libvpx-vp9",
        "options": {"cpu-used": "8", "deadline": "realtime", "g": "25"},
    },
    "mpeg-ts, mpeg2": {"container": "mpegts", "codec": "mpeg2video", "options": {"g": "25", "bf": "2", "q": "2"}},
    "mp4, mpeg4": {"codec": "mpeg4", "options": {"g": "25", "q": "3", "sc_threshold": "1000000000"}},
    "flv, h264": {"container": "flv", "options": EVERY_25},
}


def flagged(data: bytes) -> list[int]:
    """Numbers of the frames that a plain decode of the whole file calls key frames."""
    with av.open(io.BytesIO(data)) as container:
        return [number for number, frame in enumerate(container.decode(video=0)) if frame.key_frame]


@pytest.mark.parametrize("name", ENCODERS)
def test_they_are_the_key_frames_of_a_plain_decode(name):
    data = encode_video(150, height=64, width=96, **ENCODERS[name])
    frames, metadata = read_video(data, following(8))
    numbers = read_numbers(frames)
    assert numbers == metadata.frames_indices and set(numbers) <= set(flagged(data))
    assert len(numbers) == 6 or name == "mp4, h264, scenecut"


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A film of 150 frames with six key frames, in a data set that holds it twice."""
    folder, content = tmp_path_factory.mktemp("data"), encode_video(150, height=112, width=140, options=EVERY_25)
    for path in (folder / "test" / label / "clip.mp4" for label in ("label 1", "label 3")):
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
    return path


def processor_of(checkpoint, **options) -> FluxVideoProcessor:
    return FluxVideoProcessor.from_pretrained(checkpoint, decoding="keyframes", **options)


def test_pixels_budget_and_metadata(clip, tiny_checkpoint):
    processor = processor_of(tiny_checkpoint)
    batch = processor(str(clip), token_budget=96, return_tensors="pt", return_metadata=True)
    (metadata,) = batch["video_metadata"]
    assert list(metadata.frames_indices) == flagged(clip.read_bytes()) == list(range(0, 150, 25))
    assert (metadata.total_num_frames, metadata.fps, metadata.duration) == (150, 25, 6)
    assert batch["pixel_values_videos"].shape == (1, 6, 3, 84, 84) and batch["token_budget"] == 96
    frames, _ = read_video(clip, metadata.frames_indices)
    expected = processor(frames, do_sample_frames=False, size=84, token_budget=96, return_tensors="pt")
    assert torch.equal(batch["pixel_values_videos"], expected["pixel_values_videos"])
    assert processor.sample_frames(metadata, token_budget=96).tolist() == list(metadata.frames_indices)


def test_the_same_everywhere(clip, tiny_checkpoint, capsys):
    model = FluxViTForVideoClassification.from_pretrained(tiny_checkpoint).eval()
    processor = processor_of(tiny_checkpoint)
    with torch.inference_mode():
        logits = model(**processor(str(clip), token_budget=96, return_tensors="pt")).logits
    scores, classes = logits[0].softmax(-1).topk(1)
    best = {"score": pytest.approx(float(scores), abs=1e-5), "label": model.label_names[int(classes)]}

    answer = FluxVideoClassificationPipeline(model=model, video_processor=processor, device="cpu")
    assert answer(str(clip), token_budget=96, top_k=1) == [best]
    framings, pixels, _ = read_views(str(clip), processor, [(96, None)], Views(num_crops=3))
    assert framings[0].grid == (6, 84) and len(pixels[framings[0]]) == 3
    result = evaluate(load_video_dataset(clip.parents[2], "test"), model, processor, [48, 96])
    assert result["decoding"] == "keyframes"
    assert {budget: found["grids_used"] for budget, found in result["budgets"].items()} == {
        48: {"6x56": 2},
        96: {"6x84": 2},
    }
    assert "48: 6x56 (2); 96: 6x84 (2)" in markdown_table(result)
    classify_command.main(
        [str(clip), "--checkpoint", str(tiny_checkpoint), "--decoding", "keyframes", "--token_budgets", "96"]
    )
    assert "6 x 84" in capsys.readouterr().out


def test_a_part_and_several_clips(clip, tiny_checkpoint):
    processor = processor_of(tiny_checkpoint)
    framings, _, metadata = read_views(str(clip), processor, [(96, None)], Views(), start=1.2, end=5.2)
    assert list(metadata.frames_indices) == [50, 75, 100, 125] and framings[0].frames == 4
    views = Views(num_clips=2)
    framings, _, metadata = read_views(str(clip), processor, [(96, None)], views)
    assert framings[0].grid == (8, 70)
    assert metadata.frames_indices == np.unique(clip_frames(150, 8, views)).tolist()


def test_size_stays_within_the_film(clip, tiny_checkpoint):
    processor = processor_of(tiny_checkpoint, fit_source=True, grids={96: (8, 112)})
    assert processor(str(clip), token_budget=96, return_tensors="pt")["pixel_values_videos"].shape[1:] == (
        6,
        3,
        112,
        112,
    )


def test_too_few_key_frames_give_what_fast_gives_and_say_so(tiny_checkpoint, caplog):
    data = encode_video(60, height=70, width=70, options={"g": "250", "sc_threshold": "0"})
    processor, fast = processor_of(tiny_checkpoint), FluxVideoProcessor.from_pretrained(tiny_checkpoint)
    logging.warning_once.cache_clear()
    taken = processor(data, return_tensors="pt")["pixel_values_videos"]
    assert 'as with decoding="fast"' in caplog.text
    assert torch.equal(taken, fast(data, return_tensors="pt")["pixel_values_videos"])


def test_frames_without_a_file_are_middles(tiny_checkpoint):
    frames = torch.zeros(100, 56, 56, 3, dtype=torch.uint8)
    (metadata,) = processor_of(tiny_checkpoint)(frames, return_metadata=True)["video_metadata"]
    assert list(metadata.frames_indices) == segment_middles(100, 6).tolist()


def test_a_damaged_key_frame_is_not_one(caplog):
    data = bytearray(encode_video(160, options={"g": "20", "sc_threshold": "0", "bf": "0"}))
    with av.open(io.BytesIO(data)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        place, size = packets[60].pos, packets[60].size
    data[place + size // 3 : place + size] = bytes(size - size // 3)
    frames, metadata = read_video(bytes(data), following(8))
    assert metadata.replaced_frames == 1 and 60 in metadata.damaged_frames
    assert read_numbers(frames) == metadata.frames_indices
    assert set(metadata.frames_indices) <= set(range(0, 160, 20)) - {60} and len(metadata.frames_indices) == 4
    assert "1 of 8 frames" in caplog.text


@pytest.mark.parametrize("name, value", [("num_frames", 6), ("fps", 1), ("size", 56), ("crop_size", 56)])
def test_what_leaves_no_choice_is_refused(clip, tiny_checkpoint, name, value):
    message = f'decoding="keyframes".*but {name} is set'
    with pytest.raises(ValueError, match=message):
        processor_of(tiny_checkpoint, **{name: value})
    with pytest.raises(ValueError, match=message):
        processor_of(tiny_checkpoint)(str(clip), **{name: value})
    with pytest.raises(ValueError, match=message):
        FluxVideoProcessor.from_pretrained(tiny_checkpoint, **{name: value})(str(clip), decoding="keyframes")


def test_videos_of_one_call_share_one_grid(clip, tiny_checkpoint):
    processor, other = processor_of(tiny_checkpoint), encode_video(160, options={"g": "20", "sc_threshold": "0"})
    assert processor([str(clip)] * 2, token_budget=96, return_tensors="pt")["pixel_values_videos"].shape[:2] == (2, 6)
    with pytest.raises(ValueError, match="different grids.*6 x 84 x 84.*8 x 70 x 70.*one at a time"):
        processor([str(clip), other], token_budget=96)


def test_a_search_for_grids_refuses_it(clip, tiny_checkpoint, tmp_path):
    options = ["--dataset", str(clip.parents[2]), "--checkpoint", str(tiny_checkpoint), "--calibration_split", "test"]
    options += ["--output_dir", str(tmp_path / "found"), "--token_budgets", "48", "--frames", "6", "--sizes", "56"]
    with pytest.raises((ValueError, SystemExit), match="keyframes"):
        optimize_command.main([*options, "--decoding", "keyframes"])
