"""The picture of a classification: what is dimmed, and what the files hold."""

import av
import numpy as np
import pytest
import torch
from PIL import Image

from flux_hf import FluxVideoProcessor, FluxViTForVideoClassification
from flux_hf.classification import classify
from flux_hf.drawing import BACKGROUND, DIMMED, dimmed_frames, draw_classification
from flux_hf.scripts.classify import main
from tests.video_files import encode_video


@pytest.fixture(scope="module")
def results(tiny_checkpoint):
    """The tiny model's answers at 96 and 48 tokens, and its processor."""
    model = FluxViTForVideoClassification.from_pretrained(tiny_checkpoint).eval()
    processor = FluxVideoProcessor.from_pretrained(tiny_checkpoint)
    video = encode_video(
        20, height=84, width=84, picture=lambda number, *size: np.full((84, 84, 3), 9 * number, np.uint8)
    )
    return [classify(video, model, processor, budget) for budget in (96, 48)], processor


def test_dropped_tokens_are_dimmed_and_kept_ones_are_not(results):
    (large, _), processor = results
    film = dimmed_frames(large, processor)
    assert film.shape == (8, 70, 70, 3) and film.dtype == np.uint8
    kept = large.keep_mask.reshape(8, 5, 5).repeat_interleave(14, 1).repeat_interleave(14, 2).numpy()
    assert kept.sum() == 96 * 14 * 14
    deviation, mean = torch.tensor(processor.image_std), torch.tensor(processor.image_mean)
    plain = (255 * (large.pixels.permute(0, 2, 3, 1) * deviation + mean)).numpy()
    assert np.abs(film[kept] - plain[kept]).max() <= 1
    expected = DIMMED * plain + (1 - DIMMED) * np.array(BACKGROUND)
    assert np.abs(film[~kept] - expected[~kept]).max() <= 1


def test_without_a_selection_nothing_is_dimmed(tiny_checkpoint):
    model = FluxViTForVideoClassification.from_pretrained(tiny_checkpoint).eval()
    processor = FluxVideoProcessor(grids={48: (3, 56)})
    result = classify(np.zeros((6, 56, 56, 3), np.uint8), model, processor, 48)
    assert result.keep_mask is None and dimmed_frames(result, processor).max() <= 1


def test_still_has_a_block_for_each_budget(results, tmp_path):
    answers, processor = results
    draw_classification(answers[:1], processor, "clip.mp4", tmp_path / "one.png")
    draw_classification(answers, processor, "a long name " * 40, tmp_path / "two.png")
    with Image.open(tmp_path / "one.png") as one, Image.open(tmp_path / "two.png") as two:
        assert one.size[0] == two.size[0] and two.size[1] > 1.5 * one.size[1]
        rows = np.asarray(two.convert("L")).std(1)
    assert (rows > 5).sum() > 200


def test_film_plays_the_frames(results, tmp_path):
    answers, processor = results
    draw_classification(answers, processor, "clip.mp4", tmp_path / "film.mp4")
    with av.open(str(tmp_path / "film.mp4")) as container:
        frames = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]
    assert len(frames) == 3 * 8
    left = [frame[:, : frame.shape[1] // 2].mean() for frame in frames]
    assert left[7] > left[0] + 2 and abs(left[8] - left[0]) < 1  # gets brighter, then begins anew


def test_bad_arguments(results, tmp_path):
    answers, processor = results
    with pytest.raises(ValueError, match=r"must end in one of \.png, \.mp4, got .*out\.jpg"):
        draw_classification(answers, processor, "", tmp_path / "out.jpg")
    with pytest.raises(ValueError, match="no results to draw"):
        draw_classification([], processor, "", tmp_path / "out.png")


def test_command(tiny_checkpoint, make_video, tmp_path, capsys):
    clip, other = str(make_video("clip.mp4")), str(make_video("other.mp4"))
    checkpoint = ["--checkpoint", str(tiny_checkpoint)]
    for name in ("out.png", "out.mp4"):
        main([clip, *checkpoint, "--show", str(tmp_path / name)])
        assert (tmp_path / name).stat().st_size > 3000
        assert f"drawn: {tmp_path / name}" in capsys.readouterr().out
    with pytest.raises(ValueError, match="give exactly one path or URL"):
        main([clip, other, *checkpoint, "--show", str(tmp_path / "out.png")])
    with pytest.raises(ValueError, match=r"--show must end in \.png or \.mp4"):
        main([clip, *checkpoint, "--show", str(tmp_path / "out.gif")])
    (tmp_path / "folder.png").mkdir()
    for no_name in (tmp_path / ".png", tmp_path / "folder.png"):
        with pytest.raises(ValueError, match=r"--show must end in .* with a name"):
            main([clip, *checkpoint, "--show", str(no_name)])
