"""Files whose time stamps, key frames or packets are not what they seem: the right frame comes, or an error."""

import csv
import io
import random
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from transformers.testing_utils import CaptureLogger
from transformers.utils import logging

from flux_hf.processing.frame_sampling_fluxvit import sample_segments
from flux_hf.processing.video_decoding_fluxvit import VideoDecodeError, probe_video, read_video
from flux_hf.processing.views_fluxvit import Views, frames_to_decode
from flux_hf.scripts.check_videos import main as check_videos
from tests.video_files import encode_video, number_picture, read_number, read_numbers

PACKED = Path(__file__).parent / "fixtures/packed_b_frames.avi"
"""60 frames, a key frame every 15, encoded by XviD."""

REFRESH = {"options": {"x264-params": "intra-refresh=1:keyint=40:scenecut=0:bframes=2", "crf": "15"}}
OPEN_GOP = {"options": {"x264-params": "open-gop=1:keyint=12:min-keyint=12:scenecut=0:bframes=3"}}


def full_decode(data: bytes) -> list[np.ndarray]:
    """All pictures that come out of one decoder thread, in their order."""
    pictures = []
    with av.open(io.BytesIO(data)) as container:
        container.streams.video[0].codec_context.thread_count = 1
        for packet in container.demux(video=0):
            try:
                pictures += [frame.to_ndarray(format="rgb24") for frame in packet.decode()]
            except av.error.FFmpegError:
                continue
    return pictures


def remuxed(data: bytes, container: str, shift: int = 0, **options) -> bytes:
    """The same packets in another container, with time stamps moved by `shift` frames; missing ones are made up."""
    file = io.BytesIO()
    with (
        av.open(io.BytesIO(data), options={"fflags": "+genpts"}) as source,
        av.open(file, "w", container, container_options=options) as out,
    ):
        stream = out.add_stream_from_template(source.streams.video[0])
        offset = round(shift / source.streams.video[0].average_rate / source.streams.video[0].time_base)
        for packet in source.demux(video=0):
            if packet.size:
                packet.pts, packet.dts, packet.stream = packet.pts + offset, packet.dts + offset, stream
                out.mux(packet)
    return file.getvalue()


def program_stream(codec: str, **options) -> bytes:
    return encode_video(120, "mpeg", codec, options={"bf": "2", "g": "15", "qscale": "2"} | options)


MISLEADING = {
    "packed B-frames, avi": PACKED.read_bytes,
    "packed B-frames, mkv": lambda: remuxed(PACKED.read_bytes(), "matroska"),
    "packed B-frames, mp4": lambda: remuxed(PACKED.read_bytes(), "mp4"),
    "program stream, mpeg1": lambda: program_stream("mpeg1video"),
    "program stream, mpeg2": lambda: program_stream("mpeg2video"),
    "raw mpeg1": lambda: encode_video(120, "mpeg1video", "mpeg1video", options={"bf": "2", "g": "15"}),
    "raw hevc": lambda: encode_video(60, "hevc", "libx265", options={"x265-params": "log-level=none:keyint=15"}),
    "intra refresh, mp4": lambda: encode_video(120, **REFRESH),
    "intra refresh, mkv": lambda: encode_video(120, "matroska", **REFRESH),
    "intra refresh, ts": lambda: encode_video(120, "mpegts", **REFRESH),
    "h264 with B-frames from avi, mkv": lambda: remuxed(encode_video(100, "avi", **OPEN_GOP), "matroska"),
    "h264 with B-frames from avi, mp4": lambda: remuxed(encode_video(100, "avi", **OPEN_GOP), "mp4"),
    "wmv in asf": lambda: encode_video(60, "asf", "wmv2", options={"g": "12"}),
}


@pytest.mark.long
@pytest.mark.parametrize("name", MISLEADING)
def test_same_frames_as_a_full_decode(name):
    data = MISLEADING[name]()
    pictures = full_decode(data)
    assert len(pictures) > 50
    for number in range(0, len(pictures), 3):
        assert np.array_equal(read_video(data, [number])[0][0], pictures[number]), number
    for decoding in ("fast", "exact"):
        for count in (8, 16):
            frames, metadata = read_video(data, lambda metadata: sample_segments(metadata, count, decoding))  # noqa: B023
            assert metadata.total_num_frames == len(pictures)
            for frame, number in zip(frames, metadata.frames_indices, strict=True):
                assert np.array_equal(frame, pictures[number]), (decoding, count, number)


@pytest.mark.parametrize("shifts", [(5000 * 25, 0), (0, 5000 * 25), (75, 0), (0, 0)])
def test_two_recordings_joined(shifts):
    """The clock starts again in the middle of a transport stream, or leaps."""
    clip = encode_video(60, "mpegts", options={"g": "20", "bf": "2"})
    data = b"".join(remuxed(clip, "mpegts", shift) for shift in shifts)
    metadata = probe_video(data)
    assert metadata.total_num_frames == 120 and metadata.fps == pytest.approx(25, rel=0.01)
    assert metadata.duration == pytest.approx(4.8, rel=0.01)
    for number in (0, 3, 30, 59, 60, 61, 90, 119):
        assert read_numbers(read_video(data, [number])[0]) == [number % 60]


def test_streams_that_appear_while_reading():
    """The second half has streams of its own: another program begins."""
    clip = encode_video(60, "mpegts", options={"g": "20"})
    other = encode_video(
        60, "mpegts", options={"g": "20"}, container_options={"mpegts_start_pid": "500", "mpegts_pmt_start_pid": "300"}
    )
    frames, metadata = read_video(clip + other, [0, 30, 59])
    assert read_numbers(frames) == [0, 30, 59] and metadata.total_num_frames >= 60


def damaged(data: bytes, seed: int, share: float, count: int = 200) -> bytes:
    content, random_bytes, start = bytearray(data), random.Random(seed), int(len(data) * share)
    content[start : start + count] = random_bytes.randbytes(count)
    return bytes(content)


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("container, codec", [("mp4", "libx264"), ("mov", "mpeg4")])
@pytest.mark.parametrize("seed", range(3))
def test_a_damaged_part_spoils_no_more_than_itself(container, codec, seed, threads):
    """Each frame that comes shows its own number, the others are refused by name, those of other segments stay."""
    data = encode_video(100, container, codec, options={"g": "20", "qp": "12", "qscale": "4"})
    data = damaged(data, seed, 0.45)
    refused = set()
    for number in range(0, 100, 2):
        try:
            frame = read_video(data, [number], threads=threads)[0][0]
        except VideoDecodeError as error:
            assert "damaged" in str(error)
            refused.add(number)
        else:
            assert read_number(frame) == number
    assert refused and refused < set(range(20, 80))


def test_grey_picture_after_a_damaged_key_frame_is_refused():
    """The key frame decodes with its errors covered up; what is made from it decodes without any."""
    options = {"g": "20", "qp": "10", "bf": "0", "sc_threshold": "0"}
    whole = encode_video(60, options=options, container_options={"movflags": "faststart"})
    with av.open(io.BytesIO(whole)) as container:
        entry = container.streams.video[0].index_entries[20]
    data = bytearray(whole)
    for place in range(entry.pos + entry.size // 2, entry.pos + entry.size // 2 + 20):
        data[place] ^= 0x55
    pictures = full_decode(bytes(data))
    assert len(pictures) == 60 and not np.array_equal(pictures[25], full_decode(whole)[25])
    for number in (20, 25, 39):
        with pytest.raises(VideoDecodeError, match=f"frame {number} of 60 is damaged"):
            read_video(bytes(data), [number])
    assert read_numbers(read_video(bytes(data), [0, 19, 40, 59])[0]) == [0, 19, 40, 59]


@pytest.fixture(scope="module")
def spoilt() -> bytes:
    """100 frames, a key frame every 20; 57 to 59 are damaged."""
    options = {"g": "20", "qp": "10", "bf": "0", "sc_threshold": "0"}
    whole = bytearray(encode_video(100, options=options, container_options={"movflags": "faststart"}))
    with av.open(io.BytesIO(whole)) as container:
        entry = container.streams.video[0].index_entries[57]
    whole[entry.pos + 5 : entry.pos + entry.size] = bytes(entry.size - 5)
    return bytes(whole)


MIDDLES = [8, 24, 41, 56, 74, 90]  # 58 would be the fourth
AROUND = [4, 20, 37, 54, 70, 86], [12, 28, 45, 62, 78, 94]


@pytest.mark.parametrize("clips, expected", [(1, MIDDLES), (3, [*AROUND[0], *MIDDLES, *AROUND[1]])])
def test_intact_frames_of_a_segment_stand_in_for_damaged_ones(spoilt, clips, expected):
    def choose(metadata):
        return frames_to_decode(metadata, 6, Views(num_clips=clips), "exact").ravel()

    with CaptureLogger(logging.get_logger(read_video.__module__)) as said:
        frames, metadata = read_video({"path": f"{clips} clips", "bytes": spoilt}, choose)
        read_video({"path": f"{clips} clips", "bytes": spoilt}, choose)
    assert said.out.count("frames are damaged") == 1
    assert metadata.frames_indices == read_numbers(frames)
    assert metadata.frames_indices == expected
    assert metadata.damaged_frames == [57, 58, 59] and metadata.replaced_frames == 1


def test_a_segment_without_an_intact_frame_is_an_error(spoilt):
    with pytest.raises(VideoDecodeError, match="frame 5. of 100 is damaged"):
        read_video(spoilt, lambda metadata: sample_segments(metadata, 50, "fast"))
    with pytest.raises(VideoDecodeError, match="frame 57 of 100 is damaged"):
        read_video(spoilt)


def test_damaged_frames_are_reported(spoilt, tmp_path):
    for label, content in (("a", spoilt), ("b", encode_video(60))):
        (tmp_path / "set/train" / label).mkdir(parents=True)
        (tmp_path / "set/train" / label / "clip.mp4").write_bytes(content)
    output = tmp_path / "bad.csv"
    with pytest.raises(SystemExit) as stop:
        check_videos(["--dataset", str(tmp_path / "set"), "--num_workers", "1", "--output", str(output)])
    with open(output, newline="") as file:
        (row,) = csv.DictReader(file)
    assert stop.value.code == 1 and "clip.mp4" in row["video"] and row["replaced_frames"] == "1"


def two_streams(first: int, sizes: list[tuple[int, int]], default: int | None) -> bytes:
    """An mkv whose streams show the numbers `first`, `first` + 1, …"""
    file = io.BytesIO()
    with av.open(file, "w", "matroska") as output:
        streams = []
        for place, (height, width) in enumerate(sizes):
            stream = output.add_stream("ffv1", rate=25)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            stream.disposition = av.stream.Disposition.default if place == default else 0
            streams.append(stream)
        for number in range(5):
            for place, stream in enumerate(streams):
                picture = number_picture(first + place, *sizes[place])
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, 25)
                output.mux(stream.encode(frame))
        for stream in streams:
            output.mux(stream.encode(None))
    return file.getvalue()


@pytest.mark.parametrize(
    "sizes, default, taken",
    [([(96, 128), (96, 128)], 1, 1), ([(96, 128), (192, 256)], None, 1), ([(96, 128), (192, 256)], 0, 0)],
)
def test_of_several_streams_the_one_that_ffmpeg_takes(sizes, default, taken):
    frames, metadata = read_video(two_streams(7, sizes, default), [2])
    assert read_numbers(frames) == [7 + taken] and (metadata.height, metadata.width) == sizes[taken]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "animated WEBP"])
def test_pictures_are_not_called_damaged(kind, tmp_path):
    from PIL import Image

    pictures = [Image.fromarray(number_picture(number)) for number in range(3)]
    file = io.BytesIO()
    more = {"save_all": True, "append_images": pictures[1:]} if "animated" in kind else {}
    pictures[0].save(file, kind.removeprefix("animated "), **more)
    (tmp_path / "file").write_bytes(file.getvalue())
    for source in (file.getvalue(), tmp_path / "file"):
        with pytest.raises(VideoDecodeError, match="pictures are not supported"):
            read_video(source)


LOGGING = """
import faulthandler, logging, random, sys, av
from flux_hf.processing.video_decoding_fluxvit import VideoDecodeError, read_video
faulthandler.dump_traceback_later(60, exit=True)
av.logging.set_level(av.logging.ERROR)
logging.getLogger("libav").setLevel(100)
whole, refused = open(sys.argv[1], "rb").read(), 0
for seed in range(25):
    data, choose = bytearray(whole), random.Random(seed)
    start = choose.randrange(len(data) // 8, len(data) - 400)
    data[start : start + 300] = choose.randbytes(300)
    for numbers in ([50], [99], list(range(0, 100, 9))):
        try:
            read_video(bytes(data), numbers, threads=4)
        except VideoDecodeError:
            refused += 1
print(refused)
"""


def test_damaged_files_end_while_pyav_logs(tmp_path, warm_python):
    (tmp_path / "clip.mp4").write_bytes(encode_video(100, options={"g": "25", "bf": "3", "qp": "14"}))
    run = warm_python.run(LOGGING, tmp_path / "clip.mp4", cwd=tmp_path)
    assert run.returncode == 0 and int(run.stdout) > 10, run.stderr[-2000:]
