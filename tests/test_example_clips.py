"""The clips in the package: one of every motion, as the renderer draws them."""

from pathlib import Path

import av
import numpy as np
import pytest

from flux_hf.checkpoints import example_clips
from flux_hf.scripts.experiments.motion_clips import LABELS
from flux_hf.scripts.experiments.motion_clips.example_clips import render_example_clips


def decode(path):
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        return [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]


def test_one_small_clip_of_every_motion():
    clips = example_clips()
    assert set(clips) == set(LABELS)
    assert sum(Path(path).stat().st_size for path in clips.values()) < 400_000


@pytest.mark.long
def test_made_anew_they_show_the_same(tmp_path):
    """The same frames, not the same bytes: versions of the encoder differ."""
    render_example_clips(tmp_path)
    for label, path in example_clips().items():
        shipped, made = decode(path), decode(tmp_path / f"{label}.mp4")
        assert len(shipped) == len(made)
        for index in (0, len(made) // 2, len(made) - 1):
            assert np.abs(shipped[index].astype(int) - made[index]).mean() < 2
