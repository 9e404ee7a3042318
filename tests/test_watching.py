"""Watching real streams that the test serves: what is answered, and what becomes of breaks, garbage and slowness."""

import itertools
import os
import time

import av
import numpy as np
import pytest
import torch

from flux_hf import FluxVideoProcessor, FluxViTForVideoClassification, VideoDecodeError
from flux_hf.checkpoints import example_clips
from flux_hf.live import Clock, watch
from tests.live_streams import deadline, http_camera, http_files, jpeg, rtsp_camera, tcp_stream  # noqa: F401
from tests.video_files import encode_video

pytestmark = pytest.mark.usefixtures("deadline")


@pytest.fixture(scope="module")
def model(tiny_checkpoint):
    return FluxViTForVideoClassification.from_pretrained(tiny_checkpoint).eval()


@pytest.fixture(scope="module")
def processor(tiny_checkpoint):
    return FluxVideoProcessor.from_pretrained(tiny_checkpoint)


def forever():
    return (jpeg(number % 4000) for number in itertools.count())


def some(count):
    return lambda: (jpeg(number) for number in range(count))


def until(watching, condition):
    """Answers until the condition holds for them."""
    found = []
    for answer in watching:
        found.append(answer)
        if condition(found):
            return found
    raise AssertionError("it ended before")


def decoded(path):
    """time -> picture of a file, by PyAV alone."""
    with av.open(str(path)) as container:
        return {round(frame.time, 6): frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)}


def test_answers_are_those_of_processor_and_model_on_the_same_frames(model, processor, tmp_path):
    times = np.cumsum(np.random.default_rng(0).integers(20, 80, 60)) - 20  # milliseconds: the rate varies
    path = tmp_path / "uneven.mp4"
    path.write_bytes(encode_video(60, milliseconds=times.tolist(), height=70, width=96))
    pictures = decoded(path)
    first = min(pictures)
    options = {"window": 1.0, "stride": 0.0, "latency": 60, "token_budget": 96, "top_k": 4, "clock": Clock(speed=6)}
    with watch(path, model, processor, **options) as watching:
        answers = list(watching)
    assert answers[-1].pictures == 60 and answers[-1].dropped == 0
    for answer in answers:
        middles = answer.start + (np.arange(8) + 0.5) / 8 * (answer.end - answer.start)
        shown = [round(time + first, 6) for time in answer.frame_times]
        assert np.abs(np.array(answer.frame_times) - middles).max() < 0.12
        inputs = processor(np.stack([pictures[time] for time in shown]), token_budget=96, return_tensors="pt")
        with torch.inference_mode():
            scores = model(**inputs).logits[0].softmax(-1)
        assert dict(answer.labels) == pytest.approx(
            {model.config.id2label[number]: float(score) for number, score in enumerate(scores)}, abs=1e-6
        )


@pytest.mark.slow
def test_a_file_is_played_in_real_time_and_a_short_one_answered_at_its_end(model, processor, make_video):
    begun = time.monotonic()
    with watch(make_video("two_seconds.mp4", frames=24, fps=12), model, processor, window=3.0) as watching:
        (answer,) = watching
    assert time.monotonic() - begun >= 23 / 12
    assert (answer.start, round(answer.end, 3), answer.pictures) == (0, round(23 / 12, 3), 24)


def test_motion_jpeg_over_http(model, processor):
    with http_camera(forever) as (camera, address):
        with watch(address, model, processor, window=0.3, stride=0.05) as watching:
            answers = until(watching, lambda found: len(found) == 5)
    assert camera.asked == 1
    for answer in answers:
        assert answer.end - answer.start == pytest.approx(0.3)
        assert answer.frame_times == sorted(answer.frame_times)
        assert answer.connected and answer.reconnections == 0


@pytest.mark.slow
def test_a_transport_stream_over_tcp(model, processor):
    content = encode_video(100, "mpegts", options={"g": "10", "bf": "0"})
    with tcp_stream(content, seconds=4.0) as address:
        with watch(address, model, processor, window=1.0, stride=0.1) as watching:
            answers = until(watching, lambda found: len(found) == 3)
    assert answers[-1].frame_times[-1] > 0.8 and answers[-1].damaged == 0


@pytest.mark.slow
def test_h264_over_rtsp_with_a_password(model, processor):
    with rtsp_camera() as address:
        with watch(address, model, processor, window=0.5, stride=0.1) as watching:
            answers = until(watching, lambda found: len(found) == 3)
    assert answers[-1].damaged == 0 and answers[-1].frame_times == sorted(answers[-1].frame_times)


@pytest.mark.slow
@pytest.mark.parametrize("breaks", ["dies", "stalls"])
def test_a_lost_connection_is_taken_up_again(model, processor, breaks):
    def first():
        yield from some(40)()
        if breaks == "stalls":
            yield None

    changes = []
    with http_camera(first, forever) as (camera, address):
        options = {"window": 0.3, "stride": 0.05, "timeout": 1.0, "on_change": changes.append}
        with watch(address, model, processor, **options) as watching:
            answers = until(watching, lambda found: found[-1].reconnections == 1)
    assert [change.state for change in changes] == ["connected", "lost", "connected"]
    assert changes[1].pause == 1.0 and camera.asked == 2
    assert answers[-1].start < 10, "the time of a new connection begins at 0"


@pytest.mark.slow
def test_pauses_grow_and_end(model, processor):
    changes = []
    with http_camera(some(40), lambda: iter(())) as (camera, address):
        options = {"window": 0.3, "stride": 0.05, "timeout": 20, "give_up": 100, "on_change": changes.append}
        with watch(address, model, processor, clock=Clock(speed=20), **options) as watching:
            with pytest.raises(VideoDecodeError, match="given up after .* s without a picture"):
                list(watching)
    lost = [change for change in changes if change.state == "lost"]
    *pauses, last, none = [change.pause for change in lost]
    assert pauses == [1, 2, 4, 8, 16, 30, 30][: len(pauses)] and len(pauses) > 4 and none is None
    assert 0 < last <= 30 and lost[-1].time - lost[0].time >= 90, "the last try is when the time is over"
    assert watching.summary()["reconnections"] == 0


@pytest.mark.slow
def test_garbage_in_the_stream_is_survived(model, processor):
    noise = np.random.default_rng(0).bytes(20_000)

    def scene():
        for number in itertools.count():
            yield noise if number % 7 == 3 else jpeg(number % 4000)

    with http_camera(scene) as (_, address), watch(address, model, processor, window=0.3, stride=0.05) as watching:
        until(watching, lambda found: len(found) > 5 and found[-1].pictures > 60)


def test_nothing_but_garbage_is_an_error(model, processor):
    noise = np.random.default_rng(0).bytes(20_000)
    with http_camera(lambda: itertools.repeat(noise)) as (_, address):
        with pytest.raises(VideoDecodeError, match="Cannot decode http://127.0.0.1:.*/video: "):
            next(watch(address, model, processor, timeout=2))


@pytest.mark.slow
def test_pictures_of_another_size_begin_a_new_window(model, processor):
    def scene():
        yield from some(40)()
        for number in itertools.count():
            yield jpeg(number % 4000, 120, 100)

    with http_camera(scene) as (_, address), watch(address, model, processor, window=0.3, stride=0.05) as watching:
        answers = until(watching, lambda found: found[-1].pictures > 80)
    windows = [answer.frame_times for answer in answers]
    assert any(min(later) > max(earlier) for earlier, later in itertools.pairwise(windows))


@pytest.mark.slow
def test_what_a_slow_machine_cannot_decode_is_left_out_and_counted(model, processor):
    """A thousand times the speed is more than any machine decodes."""
    content = encode_video(500, options={"g": "10", "preset": "ultrafast"}, height=144, width=176)
    options = {"window": 4.0, "stride": 1.0, "latency": 1.0, "clock": Clock(speed=1000)}
    with watch(content, model, processor, **options) as watching:
        list(watching)
    counts = watching.summary()
    assert counts["dropped"] > 100 and counts["pictures"] > 0
    assert counts["dropped"] + counts["pictures"] == 500


def test_a_file_without_a_picture_is_an_error(model, processor, tmp_path):
    """The second half of a film whose one key frame is its first."""
    film = encode_video(100, "mpegts", height=48, width=64, options={"g": "1000", "sc_threshold": "0"})
    packets = len(film) // 188
    (tmp_path / "end.ts").write_bytes(film[packets // 2 * 188 :])
    watching = watch(tmp_path / "end.ts", model, processor, clock=Clock(speed=100))
    with pytest.raises(VideoDecodeError, match="end.ts: no frame of it can be decoded"):
        list(watching)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("no/such/file.mp4", "Cannot decode no/such/file.mp4: no such file"),
        ("rtsp://admin:secret@127.0.0.1:9/cam", "Cannot decode rtsp://127.0.0.1:9/cam: Connection refused"),
        ("http://127.0.0.1:9/?password=secret", "Cannot decode http://127.0.0.1:9/: Connection refused"),
        ("tcp://127.0.0.1:9", "Cannot decode tcp://127.0.0.1:9: Connection refused"),
        (os.devnull, "Cannot decode /dev/null: "),
    ],
)
def test_a_source_that_cannot_be_opened(model, processor, source, reason):
    watching = watch(source, model, processor, timeout=5)
    for _ in range(2):
        with pytest.raises(VideoDecodeError) as error:
            next(watching)
    assert str(error.value).startswith(reason) and "secret" not in str(error.value)


@pytest.mark.parametrize("option", ["window", "latency", "timeout", "give_up", "stride"])
def test_numbers_that_are_none(model, processor, option):
    with pytest.raises(ValueError, match=f"{option} must be a number of seconds"):
        watch("x.mp4", model, processor, **{option: -1.0})


@pytest.mark.slow
@pytest.mark.parametrize("token_budget", [64, 256])
def test_what_a_clip_shows_is_what_the_pipeline_says_of_the_file(token_budget):
    """Pictures are scaled before the processor sees them, and chosen by time: scores move a little."""
    from transformers import pipeline

    from flux_hf import default_checkpoint

    model = FluxViTForVideoClassification.from_pretrained(default_checkpoint()).eval()
    processor = FluxVideoProcessor.from_pretrained(default_checkpoint(), decoding="exact", token_budget=token_budget)
    classify = pipeline("video-classification", model=model, video_processor=processor)
    for label, path in example_clips().items():
        options = {"window": 6.1, "token_budget": token_budget, "latency": 60, "top_k": 1, "clock": Clock(speed=10)}
        with watch(path, model, processor, **options) as watching:
            (answer,) = watching
        (expected,) = classify(path, top_k=1)
        assert answer.labels == [(label, pytest.approx(expected["score"], abs=0.1))] and expected["label"] == label


def test_a_password_is_told_to_the_camera_that_asks(model, processor):
    with http_camera(some(30), password="user:se@cret") as (_, address):
        with pytest.raises(VideoDecodeError, match="401|Unauthorized"):
            next(watch(address, model, processor))
        with watch(address.replace("//", "//user:se%40cret@"), model, processor, window=0.2) as watching:
            assert next(watching).pictures > 0


def test_a_playlist_opens_no_files(model, processor, tmp_path):
    clip = tmp_path / "private.ts"
    clip.write_bytes(encode_video(50, "mpegts"))
    head = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n"

    def playlist(place):
        return f"{head}{place}\n#EXT-X-ENDLIST\n".encode()

    with http_files({"/clip.ts": clip.read_bytes(), "/good.m3u8": playlist("clip.ts")}) as address:
        with watch(f"{address}/good.m3u8", model, processor, window=3.0, clock=Clock(speed=4)) as watching:
            assert next(watching).pictures == 50
    with http_files({"/bad.m3u8": playlist(f"file://{clip}")}) as address:
        with pytest.raises(VideoDecodeError):
            next(watch(f"{address}/bad.m3u8", model, processor, timeout=3))


def test_adaptive_budgets_answer_a_window_each(tiny_checkpoint, processor, make_video):
    model = FluxViTForVideoClassification.from_pretrained(tiny_checkpoint).eval()
    model.config.adaptive_budget = {"token_budgets": [48, 96], "confidences": [1.0]}
    options = {"window": 3.0, "token_budget": "auto", "clock": Clock(speed=8)}
    with watch(make_video("clip.mp4"), model, processor, **options) as watching:
        assert [answer.token_budget for answer in watching] == [96]
    model.config.adaptive_budget = None
    with watch(make_video("clip.mp4"), model, processor, **options) as watching:
        with pytest.raises(ValueError, match="--objective adaptive"):
            next(watching)
