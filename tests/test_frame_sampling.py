"""Frame numbers of the sampling functions."""

import math

import numpy as np
import pytest

from flux_hf.processing.frame_sampling_fluxvit import (
    SeekableMetadata,
    cut,
    intact_frames,
    random_in_part,
    random_in_segments,
    repeat_evenly,
    sample_segments,
    segment_bounds,
    segment_middles,
    snap_to_key_frames,
)
from flux_hf.processing.video_source_fluxvit import VideoDecodeError
from flux_hf.processing.views_fluxvit import Views, frames_to_decode


def test_official_kinetics_numbers():
    assert segment_middles(300, 8, clip=0, num_clips=4).tolist() == [7, 44, 82, 119, 157, 194, 231, 269]


@pytest.mark.parametrize("total", [9, 17, 64, 250, 301, 1800])
@pytest.mark.parametrize("num_frames", [1, 4, 8])
@pytest.mark.parametrize("num_clips", [1, 4])
def test_formula_written_out(total, num_frames, num_clips):
    """Frame by frame with Python's own round, as paper.md gives the formula."""
    for clip in range(num_clips):
        s = (total - 1) / num_frames
        expected = [min(round(s * i) + int(s / (num_clips + 1) * (clip + 1)), total - 1) for i in range(num_frames)]
        assert segment_middles(total, num_frames, clip, num_clips).tolist() == expected


def test_one_clip_takes_the_middles():
    assert segment_middles(80, 8).tolist() == [4, 14, 24, 34, 44, 53, 63, 73]


def test_clips_differ_and_keep_their_order():
    clips = np.stack([segment_middles(300, 8, c, 4) for c in range(4)])
    assert (np.diff(clips, axis=0) > 0).all() and (clips[-1][:-1] < clips[0][1:]).all()


@pytest.mark.parametrize(
    "total, num_frames, expected",
    [
        (8, 8, [0, 1, 2, 3, 4, 5, 6, 7]),
        (3, 8, [0, 0, 0, 1, 1, 1, 2, 2]),
        (5, 8, [0, 0, 1, 1, 2, 3, 3, 4]),
        (1, 4, [0, 0, 0, 0]),
        (1, 1, [0]),
    ],
)
def test_short_clips_repeat_frames_evenly(total, num_frames, expected):
    assert repeat_evenly(total, num_frames).tolist() == expected
    assert segment_middles(total, num_frames).tolist() == expected
    assert segment_middles(total, num_frames, 2, 3).tolist() == expected
    assert random_in_segments(total, num_frames, np.random.default_rng(0)).tolist() == expected


@pytest.mark.parametrize("total, num_frames", [(300, 8), (17, 16), (100, 3), (16, 16), (5, 12)])
def test_random_frames_stay_in_their_segments(total, num_frames):
    first, last = segment_bounds(total, num_frames)
    generator = np.random.default_rng(0)
    drawn = np.stack([random_in_segments(total, num_frames, generator) for _ in range(2000)])
    assert (drawn.min(0) == first).all() and (drawn.max(0) == last).all()
    if total >= num_frames:
        covered = np.concatenate([np.arange(a, b + 1) for a, b in zip(first, last, strict=True)])
        assert covered.tolist() == list(range(total))


def test_random_frames_follow_the_generator():
    draws = [random_in_segments(300, 8, np.random.default_rng(seed)).tolist() for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]


@pytest.mark.parametrize("total, num_frames, min_span", [(300, 8, 0.5), (300, 8, 0.1), (16, 8, 0.5), (9, 8, 0.2)])
def test_frames_of_a_part_lie_within_it_and_parts_are_everywhere(total, num_frames, min_span):
    generator = np.random.default_rng(0)
    drawn = np.stack([random_in_part(total, num_frames, generator, min_span) for _ in range(3000)])
    assert drawn.min() == 0 and drawn.max() == total - 1
    assert (np.diff(drawn) > 0).all()  # no frame twice: a part has as many as are drawn
    reach = drawn[:, -1] - drawn[:, 0]
    shortest = max(round(min_span * total), num_frames)
    assert reach.min() <= shortest - 1  # shorter than the whole video ever gives ...
    assert reach.max() > 0.9 * (total - 1)  # ... and as long


def test_a_part_that_may_be_no_shorter_is_the_video():
    whole, part = (np.random.default_rng(3) for _ in range(2))
    assert random_in_segments(300, 8, whole).tolist() == random_in_part(300, 8, part, 1.0).tolist()
    assert whole.bit_generator.state == part.bit_generator.state
    assert random_in_part(5, 8, part, 0.5).tolist() == random_in_segments(5, 8, whole).tolist()


def test_draws_snap_to_the_nearest_key_frame_of_their_segment():
    assert snap_to_key_frames([20, 30, 60, 99], 100, [0, 40, 44]).tolist() == [0, 40, 60, 99]
    assert snap_to_key_frames([42, 60], 100, [40, 44, 49, 51]).tolist() == [40, 51]
    # 24 is nearer to 27 than 40 is, but in another segment
    assert snap_to_key_frames([3, 27], 50, [24, 40]).tolist() == [24, 40]
    assert snap_to_key_frames([3, 25], 50, []).tolist() == [3, 25]
    assert snap_to_key_frames([3, 25], 50, [-4, 60]).tolist() == [3, 25]
    assert snap_to_key_frames([0, 0, 1, 2], 3, [0, 1]).tolist() == [0, 0, 1, 2]


@pytest.mark.parametrize("total, num_frames", [(300, 8), (17, 16), (100, 3), (16, 16), (5, 12)])
def test_snapped_draws_are_the_best_of_their_segments_where_that_leaves_out_frames(total, num_frames):
    first, last = segment_bounds(total, num_frames)
    generator = np.random.default_rng(0)
    for _ in range(100):
        keys = np.flatnonzero(generator.random(total) < 0.1)
        drawn = random_in_segments(total, num_frames, generator)
        nearest = drawn.copy()
        for place, (low, high) in enumerate(zip(first, last, strict=True)):
            if (inside := keys[(low <= keys) & (keys <= high)]).size:
                nearest[place] = min(inside, key=lambda key: abs(key - drawn[place]))  # noqa: B023 (at once)
        snapped = snap_to_key_frames(drawn, total, keys)
        assert ((snapped == drawn) | (snapped == nearest)).all()
        assert frames_decoded(snapped, keys) <= min(frames_decoded(drawn, keys), frames_decoded(nearest, keys))
        for place in np.flatnonzero(snapped != drawn):
            back = np.where(np.arange(num_frames) == place, drawn, snapped)
            assert frames_decoded(back, keys) > frames_decoded(snapped, keys)


def test_a_draw_stays_where_its_run_goes_on():
    assert snap_to_key_frames([4, 12, 25], 30, [0]).tolist() == [4, 12, 25]
    assert snap_to_key_frames([4, 12, 25], 30, [0, 11]).tolist() == [0, 12, 25]


def test_intact_frames_of_the_segment_stand_in_for_damaged_ones():
    damaged = SeekableMetadata(total_num_frames=40, key_frames=[0], damaged_frames=[20, 21, 22, 23, 24, 35])
    middles = segment_middles(40, 8).tolist()
    assert middles == [2, 7, 12, 17, 22, 26, 31, 36]
    for mode in ("fast", "exact"):
        assert sample_segments(damaged, 8, mode).tolist() == middles, "the fifth segment has no other frame"
    damaged.damaged_frames = [12, 22, 23, 24, 36]
    assert sample_segments(damaged, 8, "exact").tolist() == [2, 7, 11, 17, 21, 26, 31, 35]
    first, part = cut(SeekableMetadata(total_num_frames=60, fps=10.0, damaged_frames=[3, 36, 59]), "x", 2.0, 5.0)
    assert (first, part.damaged_frames, part.key_frames) == (20, [16], [-20])
    assert intact_frames([3, 13, 22], part).tolist() == [3, 13, 22]
    assert intact_frames([3, 16, 22], part).tolist() == [3, 15, 22]
    assert frames_to_decode(part, 4, Views(2), "fast").tolist() == [[2, 9, 15, 24], [4, 11, 18, 26]]


def frames_decoded(numbers, keys) -> int:
    """From the key frame before each of the numbers up to it, every frame once."""
    decoded = set()
    for number in map(int, numbers):
        decoded |= set(range(max((int(key) for key in keys if key <= number), default=0), number + 1))
    return len(decoded)


@pytest.mark.parametrize("total", range(1, 40))
def test_always_valid_and_ascending(total):
    for num_frames in range(1, 40):
        samples = [segment_middles(total, num_frames, c, 3) for c in range(3)]
        samples += [repeat_evenly(total, num_frames), random_in_segments(total, num_frames, np.random.default_rng(0))]
        for sample in samples:
            assert sample.shape == (num_frames,) and sample.dtype == np.int64
            assert sample.min() >= 0 and sample.max() < total and (np.diff(sample) >= 0).all()


def test_bad_arguments():
    for total, num_frames in ((0, 8), (8, 0), (-1, 1)):
        for function in (repeat_evenly, segment_middles, segment_bounds):
            with pytest.raises(ValueError, match=f"total={total}, num_frames={num_frames}"):
                function(total, num_frames)
    for clip, num_clips in ((1, 1), (-1, 2), (0, 0)):
        with pytest.raises(ValueError, match="clip must be from 0 to num_clips - 1"):
            segment_middles(100, 8, clip, num_clips)


@pytest.mark.parametrize(("start", "end"), [(math.nan, None), (math.inf, None), (None, math.inf), (0.0, math.nan)])
def test_times_that_are_not_finite(start, end):
    with pytest.raises(VideoDecodeError, match="^Cannot decode x: start and end must be seconds"):
        cut(SeekableMetadata(total_num_frames=60, fps=10.0), "x", start, end)
