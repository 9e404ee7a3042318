"""FluxVideoProcessor with fit_source: grids that hold no more than the video does."""

import numpy as np
import pytest
from transformers import AutoVideoProcessor, pipeline

from flux_hf import FluxVideoProcessor
from tests.video_files import encode_video, number_picture


def shape(processor, videos, **options) -> tuple:
    return tuple(processor(videos, return_tensors="pt", **options)["pixel_values_videos"].shape)


def video(frames: int, height: int, width: int) -> np.ndarray:
    return np.stack([number_picture(number, height, width) for number in range(frames)])


@pytest.mark.parametrize("as_file", [False, True])
@pytest.mark.parametrize(
    "frames, height, width, grid",
    [(20, 240, 300, (8, 224)), (5, 300, 240, (5, 224)), (1, 240, 240, (1, 252)), (60, 90, 120, (12, 98))],
)
def test_one_video(frames, height, width, grid, as_file):
    processor = FluxVideoProcessor(token_budget=512)
    clip = encode_video(frames, height=height, width=width) if as_file else video(frames, height, width)
    side = min(height, width)
    assert shape(processor, clip, fit_source=True) == (1, grid[0], 3, grid[1], grid[1])
    assert shape(processor, clip) == (1, 8, 3, 224, 224)
    assert processor.choose_grid(source=(frames, side)) == grid and processor.choose_grid() == (8, 224)


def test_a_batch_shares_the_grid_of_its_longest_and_largest():
    processor = FluxVideoProcessor(token_budget=512, fit_source=True)
    videos = [encode_video(3, height=200, width=260), video(6, 60, 60), encode_video(2, height=48, width=64)]
    assert shape(processor, videos) == (3, 6, 3, 210, 210)
    batch = processor(videos, return_metadata=True)
    assert [list(entry.frames_indices) for entry in batch["video_metadata"]] == [
        [0, 0, 1, 1, 2, 2],
        [0, 1, 2, 3, 4, 5],
        [0, 0, 0, 1, 1, 1],
    ]
    assert shape(processor, videos[1]) == (1, 6, 3, 70, 70)


def test_what_is_asked_for_wins():
    processor = FluxVideoProcessor(token_budget=512, fit_source=True)
    clip = video(6, 60, 60)
    assert shape(processor, clip, num_frames=4) == (1, 4, 3, 70, 70)
    assert shape(processor, clip, size=112) == (1, 6, 3, 112, 112)
    assert shape(processor, clip, fit_source=False) == (1, 8, 3, 224, 224)
    assert shape(processor, clip, do_sample_frames=False) == (1, 6, 3, 224, 224)
    assert shape(FluxVideoProcessor(fit_source=True, num_frames=9, size=56), clip) == (1, 9, 3, 56, 56)
    with pytest.raises(ValueError, match="num_frames=7 is more than the 6 frames"):
        processor(clip, num_frames=7)


def test_the_option_is_saved_and_the_pipeline_obeys_it(tiny_checkpoint, tiny_processor, tmp_path, make_video):
    FluxVideoProcessor(**{**tiny_processor.to_dict(), "fit_source": True}).save_pretrained(tmp_path)
    processor = AutoVideoProcessor.from_pretrained(tmp_path)
    assert processor.fit_source is True
    shapes = []
    classify = pipeline("video-classification", model=tiny_checkpoint, video_processor=processor)
    classify.model.register_forward_pre_hook(
        lambda module, arguments, options: shapes.append(tuple(options["pixel_values_videos"].shape)), with_kwargs=True
    )
    classify(str(make_video("long.mp4")))
    classify(str(make_video("short.mp4", frames=2)))
    assert shapes == [(1, 6, 3, 56, 56), (1, 2, 3, 70, 70)]


def test_frames_chosen_before_may_be_an_array_of_numbers():
    """What one call returns as metadata, another one takes."""
    processor = FluxVideoProcessor(token_budget=512, size=56)
    clip = video(20, 60, 60)
    (metadata,) = processor(clip, return_metadata=True)["video_metadata"]
    chosen = clip[metadata.frames_indices]
    again = processor(chosen, video_metadata=metadata, do_sample_frames=False, return_metadata=True)
    assert list(again["video_metadata"][0].frames_indices) == list(metadata.frames_indices)
