"""The parts of a watch: names without secrets, the ring of the last seconds, the controller of the token budget."""

import random

import av
import numpy as np
import pytest

from flux_hf.live.budget_controller import BudgetController
from flux_hf.live.ring import Ring
from flux_hf.live.streams import stream_name
from flux_hf.processing.frame_sampling_fluxvit import segment_middles
from tests.video_files import number_picture, read_numbers


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("rtsp://cam.local:554/stream1", "rtsp://cam.local:554/stream1"),
        ("rtsp://admin:secret@cam/h264", "rtsp://cam/h264"),
        ("rtsp://admin:se/cret@cam/h264", "rtsp://..."),
        ("rtsp://admin:12/34@cam/h264", "rtsp://..."),
        ("rtsp://cam:554/user=admin&password=secret&channel=1", "rtsp://cam:554/..."),
        ("rtsp://cam/Streaming/Channels/101?token=secret", "rtsp://cam/Streaming/Channels/101"),
        ("http://admin:secret@[fe80::1]:8080/video.mjpg?pwd=secret", "http://[fe80::1]:8080/video.mjpg"),
        ("HTTP://admin:secret@cam/video#secret", "HTTP://cam/video"),
        ("udp://239.0.0.1:1234", "udp://239.0.0.1:1234"),
        ("/dev/video0", "/dev/video0"),
    ],
)
def test_names_hold_no_secrets(source, name):
    assert stream_name(source) == name


def shown(number: int, height: int = 96, width: int = 128) -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(number_picture(number, height, width), format="rgb24")


def filled(times, seconds=2.0, most_frames=8) -> Ring:
    ring = Ring(seconds, most_frames, short_side=96)
    for number, time in enumerate(times):
        ring.add(time, 100 + time, shown(number))
    return ring


def test_frames_of_a_window_are_those_of_a_file_to_an_eighth_of_a_segment():
    """A ring of the last two seconds at 30 pictures/s, and what the sampler takes of a file of these two seconds."""
    times = np.arange(300) / 30
    window = filled(times).window(8)
    numbers = read_numbers(window.frames)
    assert numbers == [round(time * 30) for time in window.times]
    assert (window.start, window.end, window.arrival) == (times[-1] - 2, times[-1], 100 + times[-1])
    assert np.abs(np.array(numbers) - 240 - segment_middles(60, 8)).max() <= 1


def test_uneven_stamps_are_chosen_by_time_and_not_by_number():
    random.seed(0)
    times = np.cumsum([random.choice([0.01, 0.2]) for _ in range(200)])
    window = filled(times).window(8)
    middles = window.start + 2 * (np.arange(8) + 0.5) / 8
    best = [times[np.abs(times - middle).argmin()] for middle in middles]
    assert np.abs(np.array(window.times) - middles).max() <= np.abs(np.array(best) - middles).max() + 2 / 32 + 1e-9


def test_a_camera_of_one_picture_a_second_repeats_them():
    window = filled(np.arange(10.0), seconds=4.0).window(8)
    assert read_numbers(window.frames) == [5, 6, 6, 7, 7, 8, 8, 9]


def test_no_window_before_its_length_has_passed():
    assert filled(np.arange(56) / 30).window(8) is None
    assert filled(np.arange(61) / 30).window(8) is not None
    assert filled(np.arange(30) / 30).window(4, short=True).times == pytest.approx([0.12, 0.36, 0.6, 0.85], abs=0.04)
    assert filled([]).window(4, short=True) is None


@pytest.mark.parametrize("rate", [10, 60, 1000])
def test_few_pictures_are_kept_at_any_rate(rate):
    ring, picture = Ring(2.0, 4, short_side=96), shown(0)
    for number in range(10 * rate):
        ring.add(number / rate, 0.0, picture)
    assert ring.newest == 10 * rate
    assert 16 <= len(ring._kept) <= 18


def test_what_another_size_or_a_leap_forgets():
    ring = filled(np.arange(90) / 30)
    ring.add(3.01, 0.0, shown(7, 120, 100))
    assert ring.window(8) is None and ring.window(1, short=True).frames.shape == (1, 115, 96, 3)
    ring = filled(np.arange(90) / 30)
    ring.add(2.5, 0.0, shown(1))
    assert ring.window(8).end == 89 / 30, "a picture that is only a little late is left out"
    ring.add(0.5, 0.0, shown(7))
    assert ring.window(8) is None and ring.window(1, short=True).end == 0.5


SECONDS = {1024: 0.4, 512: 0.2, 256: 0.1}


def simulated(controller: BudgetController, load, seconds: float, noise: float = 0.0) -> list[int]:
    """The budgets of all answers in that time, one each half a second, where every answer takes `load(now)` times as
    long as alone."""
    chance, now, budgets = random.Random(0), 0.0, []
    while now < seconds:
        budgets.append(controller.token_budget)
        delay = SECONDS[controller.token_budget] * load(now) * chance.uniform(1 - noise, 1 + noise)
        now += max(0.5, delay)
        controller.observe(delay, now)
    return budgets


@pytest.mark.parametrize(("latency", "budget"), [(1.0, 1024), (0.3, 512), (0.15, 256), (0.01, 256)])
def test_the_first_budget_is_the_largest_in_time(latency, budget):
    assert set(simulated(BudgetController(SECONDS, latency), lambda now: 1, 60)) == {budget}


def test_a_load_lowers_the_budget_at_once_and_its_end_raises_it_again():
    budgets = simulated(BudgetController(SECONDS, 0.6), lambda now: 4 if 20 <= now < 60 else 1, 120)
    changes = [(before, after) for before, after in zip(budgets, budgets[1:]) if before != after]  # noqa: B905
    assert changes == [(1024, 256), (256, 512), (512, 1024)]
    late = sum(SECONDS[budget] * 4 > 0.6 for budget in budgets[40:80])
    assert late <= 3


def test_one_slow_answer_changes_nothing():
    hiccups = lambda now: 10 if int(now) % 20 == 0 and now % 1 < 0.5 else 1  # noqa: E731
    assert set(simulated(BudgetController(SECONDS, 0.6), hiccups, 200)) == {1024}


@pytest.mark.parametrize("load", [1.0, 1.2, 1.45, 1.55, 2.0, 2.9, 3.1])
def test_budgets_do_not_go_up_and_down(load):
    """An hour of a steady load, answers that take up to a third longer or shorter by chance."""
    budgets = simulated(BudgetController(SECONDS, 0.6), lambda now: load, 3600, noise=0.33)
    assert sum(before != after for before, after in zip(budgets, budgets[1:])) <= 70  # noqa: B905


def test_of_a_short_clip_no_picture_is_missing():
    assert read_numbers(filled(np.arange(16) / 30, seconds=60.0, most_frames=16).window(16, short=True).frames) == [
        *range(16)
    ]
