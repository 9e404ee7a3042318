"""Fast decoding: the middle frame of each segment, unless others are much cheaper to read; the same every time."""

import io
import itertools
from collections import Counter

import av
import numpy as np
import pytest
import torch
from huggingface_hub.errors import StrictDataclassFieldValidationError

from flux_hf.processing.frame_sampling_fluxvit import (
    FILE_COST,
    FRAME_COST,
    middles_unless_cheaper,
    sample_segments,
    segment_bounds,
    segment_middles,
)
from flux_hf.processing.grid_fluxvit import Grid
from flux_hf.processing.pipeline_fluxvit import FluxVideoClassificationPipeline
from flux_hf.processing.video_container_fluxvit import VideoFile
from flux_hf.processing.video_decoding_fluxvit import read_video
from flux_hf.processing.video_processing_fluxvit import FluxVideoProcessor
from flux_hf.processing.views_fluxvit import Views, read_views
from tests.test_video_decoding import FILES, UNEVEN
from tests.video_files import encode_video, read_numbers

OPEN_GOP = {"options": {"x264-params": "open-gop=1:keyint=12:min-keyint=12:scenecut=0:bframes=3"}}


@pytest.fixture
def fed(monkeypatch):
    """Counts the packets that the decoder gets, and those of them it may not leave out."""
    counted = Counter()
    original = VideoFile.frames

    def frames(self, before=None, packets=None):
        def counting(packet):
            last = before(packet) if before else False
            counted["packets"] += packet.size > 0
            counted["whole"] += packet.size > 0 and self.stream.codec_context.skip_frame != "NONREF"
            return last

        return original(self, counting, packets)

    monkeypatch.setattr(VideoFile, "frames", frames)
    return counted


def fast(num_frames: int):
    return lambda metadata: sample_segments(metadata, num_frames, "fast")


@pytest.mark.long
@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("num_frames", [1, 5, 8, 24])
def test_every_frame_lies_in_its_segment(name, num_frames):
    data = encode_video(**FILES[name])
    frames, metadata = read_video(data, fast(num_frames))
    numbers = read_numbers(frames)
    assert numbers == metadata.frames_indices and metadata.total_num_frames == 100
    first, last = segment_bounds(100, num_frames)
    assert (first <= numbers).all() and (numbers <= last).all()
    again, _ = read_video(data, fast(num_frames))
    assert np.array_equal(frames, again)
    assert np.array_equal(frames, read_video(data, numbers)[0])


@pytest.mark.parametrize("container, codec", [("mp4", "libx264"), ("webm", "libvpx-vp9"), ("avi", "mpeg4")])
@pytest.mark.parametrize("count", [1, 2, 7])
def test_short_clips_repeat_frames_as_ever(container, codec, count):
    frames, _ = read_video(encode_video(count, container, codec), fast(8))
    assert read_numbers(frames) == segment_middles(count, 8).tolist()


MIDDLES = {
    "one key frame": (40, 8, [0]),
    "one key frame, many segments": (300, 64, [0]),
    "one key frame, a long film": (90_000, 8, [0]),
    "one key frame, one frame of a short clip": (40, 1, [0]),
    "every frame is a key frame": (300, 8, range(300)),
    "nothing known of key frames": (300, 8, []),
    "a second key frame that is the last frame": (40, 8, [0, 39]),
    "a second key frame that the run passes": (400, 8, [0, 110]),
    "key frames are the middles": (301, 4, [37, 112, 187, 262]),
    "key frames that are close, in a short clip": (40, 8, [0, 12, 24, 36]),
    "key frames before and after the part": (40, 8, [-9, 40, 50]),
}


@pytest.mark.parametrize("total, num_frames, key_frames", MIDDLES.values(), ids=MIDDLES)
def test_middles_where_others_save_nothing_that_matters(total, num_frames, key_frames):
    taken = middles_unless_cheaper(total, num_frames, key_frames)
    assert taken.tolist() == segment_middles(total, num_frames).tolist() and taken.dtype == np.int64


CHEAPER = {
    "a key frame in each segment": (300, 4, range(0, 300, 30), [30, 120, 180, 270]),
    "a key frame late in each segment": (800, 4, [180, 390, 590, 790], [180, 390, 590, 790]),
    "between key frames the run has its middles": (800, 8, [0, 470], [49, 149, 249, 349, 470, 548, 648, 748]),
    "fewer key frames than segments": (1500, 8, range(0, 1500, 250), [0, 250, 500, 562, 750, 1000, 1250, 1312]),
    "one frame of a long film": (90_000, 1, [0, 40_000, 60_000], [40_000]),
    "one frame, one key frame, a long film": (90_000, 1, [0], [0]),
    "a part that begins between key frames": (800, 2, [-200, 300], [300, 400]),
    "no key frame at the beginning": (600, 2, [250], [250, 300]),
}


@pytest.mark.parametrize("total, num_frames, key_frames, expected", CHEAPER.values(), ids=CHEAPER)
def test_other_frames_where_they_save_much(total, num_frames, key_frames, expected):
    assert middles_unless_cheaper(total, num_frames, key_frames).tolist() == expected


def read_cost(numbers, key_frames) -> int:
    """Of reading these frames, in decoded frames, counted one by one."""
    keys, decoded = sorted({0, *map(int, key_frames)} if min(key_frames, default=1) > 0 else set(key_frames)), set()
    for number in map(int, numbers):
        decoded |= set(range(max(key for key in keys if key <= number), number + 1))
    return FILE_COST + FRAME_COST * len(numbers) + len(decoded)


@pytest.mark.parametrize("seed", range(40))
def test_never_much_more_than_the_cheapest_and_nothing_moved_for_nothing(seed):
    draw = np.random.default_rng(seed)
    total, num_frames = int(draw.integers(20, 60)), int(draw.integers(1, 5))
    keys = [0, *(1 + np.flatnonzero(draw.random(total - 1) < draw.choice([0.02, 0.1, 0.4]))).tolist()]
    taken, middles = middles_unless_cheaper(total, num_frames, keys), segment_middles(total, num_frames)
    first, last = segment_bounds(total, num_frames)
    assert (first <= taken).all() and (taken <= last).all()
    candidates = [
        sorted({int(a), int(m), *(k for k in keys if a <= k <= b)})
        for a, m, b in zip(first, middles, last, strict=True)
    ]
    cheapest = min(read_cost(numbers, keys) for numbers in itertools.product(*candidates))
    cost = read_cost(taken, keys)
    assert cost <= read_cost(middles, keys) and cost <= 2.5 * cheapest
    for place in np.flatnonzero(taken != middles):
        back = taken.copy()
        back[place] = middles[place]
        assert read_cost(back, keys) > cost


def test_bad_counts_are_refused():
    for numbers in ((0, 4), (10, 0)):
        with pytest.raises(ValueError, match="at least one frame"):
            middles_unless_cheaper(*numbers, [0])
    assert middles_unless_cheaper(3, 4, [0]).tolist() == [0, 0, 1, 2]


KEYED = {
    "mp4, B-frames": {"options": {"bf": "3", "g": "10", "sc_threshold": "0"}},
    "mp4, variable frame rate": {"milliseconds": True, "options": {"bf": "3", "g": "10", "sc_threshold": "0"}},
    "mp4, open GOP": {"options": {"x264-params": "open-gop=1:keyint=10:min-keyint=10:scenecut=0:bframes=3"}},
    "mp4, hevc": {"codec": "libx265", "options": {"x265-params": "log-level=none:keyint=10:min-keyint=10:scenecut=0"}},
    "mkv, no frame count": {"container": "matroska", "options": {"bf": "2", "g": "10", "sc_threshold": "0"}},
    "webm, vp9": {
        "container": "webm",
        "codec": "libvpx-vp9",
        "options": {"cpu-used": "8", "deadline": "realtime", "g": "10"},
    },
}


def keyed(name: str, count: int) -> bytes:
    options = dict(KEYED[name])
    if options.pop("milliseconds", False):
        steps = np.resize(np.diff(UNEVEN, prepend=0), count)
        options["milliseconds"] = np.cumsum(steps).tolist()
    return encode_video(count, height=64, width=96, **options)


@pytest.mark.long
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", KEYED)
def test_what_is_decoded_does_not_grow_with_length(name, threads, fed):
    """With a key frame in every segment, one packet per frame asked for is decoded."""
    packets = []
    for count in (120, 480):
        data = keyed(name, count)
        fed.clear()
        frames, _ = read_video(data, fast(6), threads=threads)
        packets.append(fed["packets"])
        assert len(set(read_numbers(frames))) == 6
    assert packets == [6, 6]


def test_frames_no_other_is_made_from_are_left_out(fed):
    data = encode_video(200, options={"bf": "3", "g": "200", "sc_threshold": "0", "b-pyramid": "none", "b-adapt": "0"})
    frames, _ = read_video(data, fast(4))
    assert read_numbers(frames) == segment_middles(200, 4).tolist() == [24, 74, 124, 173]
    with av.open(io.BytesIO(data)) as container:
        stamps = [packet.pts for packet in container.demux(video=0) if packet.size][: fed["packets"]]
    ahead = int((np.array(stamps) == np.maximum.accumulate(stamps)).sum())  # the others are shown before one of these
    assert fed["packets"] <= 178 and fed["whole"] <= ahead + 4 < fed["packets"] / 2


def test_exact_frames_need_no_more_than_what_they_are_made_from(fed):
    data = encode_video(100, options={"bf": "2", "g": "20", "sc_threshold": "0"})
    frames, _ = read_video(data, [45, 85])
    assert read_numbers(frames) == [45, 85] and fed["packets"] <= 16


def test_the_mode_of_the_processor():
    data = encode_video(100, height=56, width=56, options={"g": "10", "sc_threshold": "0"})

    def taken(**options):
        batch = FluxVideoProcessor(num_frames=4, size=56)(data, return_metadata=True, **options)
        return list(batch["video_metadata"][0].frames_indices)

    assert taken() == taken(decoding="fast") == taken(decoding=None) == [12, 40, 62, 90]
    assert taken(decoding="exact") == segment_middles(100, 4).tolist()
    array = torch.zeros(100, 56, 56, 3, dtype=torch.uint8)
    batch = FluxVideoProcessor(num_frames=4, size=56)(array, return_metadata=True)
    assert list(batch["video_metadata"][0].frames_indices) == segment_middles(100, 4).tolist()
    with pytest.raises(StrictDataclassFieldValidationError, match="fast, exact"):
        FluxVideoProcessor(decoding="quick")


def test_the_mode_is_saved(tmp_path):
    FluxVideoProcessor(decoding="exact").save_pretrained(tmp_path)
    assert FluxVideoProcessor.from_pretrained(tmp_path).decoding == "exact"
    assert FluxVideoProcessor.from_pretrained(tmp_path, decoding="fast").decoding == "fast"


def test_metadata_can_be_handed_in_again():
    """What comes back are the fields that every processor knows."""
    data = encode_video(30)
    metadata = FluxVideoProcessor(num_frames=4, size=56)(data, return_metadata=True)["video_metadata"][0]
    frames, _ = read_video(data)
    FluxVideoProcessor(num_frames=4, size=56)(frames, video_metadata=dict(metadata))


def test_one_decoding_serves_all_grids_and_crops_of_an_evaluation(fed):
    data = encode_video(240, height=60, width=120, options={"g": "10", "sc_threshold": "0"})
    processor = FluxVideoProcessor(patch_size=8)
    _, pixels, _ = read_views(data, processor, [(None, Grid(4, 40)), (None, Grid(6, 32))], Views(num_crops=3))
    assert {framing.grid: tuple(views.shape) for framing, views in pixels.items()} == {
        (4, 40): (3, 4, 3, 40, 40),
        (6, 32): (3, 6, 3, 32, 32),
    }
    assert fed["packets"] <= 4 + 6


def test_views_of_the_pipeline(tiny_checkpoint, fed):
    from flux_hf import FluxViTForVideoClassification

    classify = FluxVideoClassificationPipeline(
        model=FluxViTForVideoClassification.from_pretrained(tiny_checkpoint).eval(),
        video_processor=FluxVideoProcessor.from_pretrained(tiny_checkpoint),
    )
    data = encode_video(240, height=60, width=60, options={"g": "10", "sc_threshold": "0"})
    assert len(classify(data, num_crops=3, token_budget=48)) == 4
    assert fed["packets"] <= 6


LOGGED = """
import faulthandler, logging, sys
import av
from flux_hf.processing.frame_sampling_fluxvit import sample_segments
from flux_hf.processing.video_decoding_fluxvit import read_video
faulthandler.dump_traceback_later(60, exit=True)
av.logging.set_level(av.logging.TRACE)
logging.disable(logging.CRITICAL)
for _ in range(15):
    read_video(sys.argv[1], lambda metadata: sample_segments(metadata, 8, "fast"), threads=3)
"""


def test_decoding_ends_where_somebody_has_set_the_log_level(tmp_path, warm_python):
    """The decoder's threads need the GIL to log, also while the decoder is freed; torchvision before 0.26 sets it."""
    path = tmp_path / "clip.avi"
    path.write_bytes(encode_video(**FILES["avi, h264, B-frames"]))
    done = warm_python.run(LOGGED, path, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
