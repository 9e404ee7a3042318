"""Decoding: the right frames of every kind of file, nothing decoded without need, one clear error for everything
else."""

import io
import os
import pickle
from fractions import Fraction
from http.server import BaseHTTPRequestHandler

import av
import numpy as np
import psutil
import pytest
import torch
from torchvision.transforms.v2.functional import resize

from flux_hf.processing.video_container_fluxvit import VideoFile, opened_video
from flux_hf.processing.video_decoding_fluxvit import VideoDecodeError, probe_video, read_video
from tests.local_server import serving
from tests.video_files import encode_sound, encode_video, number_picture, read_number, read_numbers

UNEVEN = np.cumsum(np.random.default_rng(0).integers(5, 90, 100)).tolist()
FAST_VP9 = {"cpu-used": "8", "deadline": "realtime", "g": "20"}
FILES = {
    "mp4, B-frames, long GOP": {"options": {"bf": "3", "g": "40", "b-pyramid": "normal"}},
    "mp4, open GOP": {"options": {"x264-params": "open-gop=1:keyint=12:min-keyint=12:scenecut=0:bframes=3"}},
    "mp4, key frames only": {"options": {"g": "1"}},
    "mp4, variable frame rate": {"milliseconds": UNEVEN, "options": {"bf": "3", "g": "20"}},
    "mp4, fragmented": {"container_options": {"movflags": "frag_keyframe+empty_moov"}, "options": {"g": "10"}},
    "mp4, fragmented, index first": {"container_options": {"movflags": "frag_keyframe"}, "options": {"g": "10"}},
    "mp4, 10 bit": {"pixels": "yuv420p10le"},
    "mp4, odd size": {"pixels": "yuv444p", "height": 97, "width": 131},
    "mp4, hevc": {"codec": "libx265", "options": {"g": "20", "x265-params": "log-level=none"}},
    "mov, png with alpha": {"container": "mov", "codec": "png", "pixels": "rgba"},
    "mkv, no frame count": {"container": "matroska", "options": {"g": "20", "bf": "2"}},
    "mkv, variable frame rate": {"container": "matroska", "milliseconds": UNEVEN, "options": {"g": "20"}},
    "mkv, grey": {"container": "matroska", "codec": "ffv1", "pixels": "gray"},
    "mkv, grey 10 bit": {"container": "matroska", "codec": "ffv1", "pixels": "gray10le"},
    "mkv, bgra": {"container": "matroska", "codec": "ffv1", "pixels": "bgra"},
    "mkv, odd size": {"container": "matroska", "codec": "ffv1", "height": 97, "width": 131},
    "webm, vp9": {"container": "webm", "codec": "libvpx-vp9", "options": FAST_VP9},
    "webm, vp9 with alpha": {
        "container": "webm",
        "codec": "libvpx-vp9",
        "pixels": "yuva420p",
        "options": FAST_VP9 | {"auto-alt-ref": "0"},
    },
    "webm, vp8 with hidden frames": {
        "container": "webm",
        "codec": "libvpx",
        "options": {"auto-alt-ref": "1", "lag-in-frames": "16", "g": "30", "cpu-used": "5"},
    },
    "mpeg-ts, h264": {"container": "mpegts", "options": {"g": "20", "bf": "2"}},
    "mpeg-ts, mpeg2": {"container": "mpegts", "codec": "mpeg2video", "options": {"g": "12", "bf": "2"}},
    "mpeg-ps": {"container": "mpeg", "codec": "mpeg2video", "options": {"g": "12", "bf": "2"}},
    "avi, mpeg4": {"container": "avi", "codec": "mpeg4", "options": {"g": "12"}},
    "avi, mpeg4, B-frames": {"container": "avi", "codec": "mpeg4", "options": {"g": "12", "bf": "2"}},
    "avi, h264, B-frames": {"container": "avi", "options": {"g": "12", "bf": "2"}},
    "avi, mjpeg": {"container": "avi", "codec": "mjpeg", "pixels": "yuvj420p"},
    "flv": {"container": "flv", "options": {"g": "20", "bf": "2"}},
    "raw h264": {"container": "h264", "options": {"g": "12", "bf": "2"}},
    "gif": {"container": "gif", "codec": "gif", "pixels": "rgb8"},
}
QUARTER = 65536
ONE = 1 << 30


@pytest.fixture(scope="module")
def mp4() -> bytes:
    return encode_video(60, options={"g": "15", "bf": "2"})


@pytest.fixture
def decoded_count(monkeypatch):
    """Counts the frames that come out of the decoder: call it for the number since the last call."""
    counted = []
    original = VideoFile.frames

    def frames(*args):
        for frame in original(*args):
            counted.append(frame.pts)
            yield frame

    monkeypatch.setattr(VideoFile, "frames", frames)

    def count():
        number = len(counted)
        counted.clear()
        return number

    return count


@pytest.mark.parametrize("name", FILES)
def test_right_frames(name):
    data = encode_video(**FILES[name])
    height, width = FILES[name].get("height", 96), FILES[name].get("width", 128)

    frames, metadata = read_video(data)
    assert frames.shape == (100, height, width, 3) and frames.dtype == np.uint8
    assert read_numbers(frames) == list(range(100))
    assert (metadata.total_num_frames, metadata.height, metadata.width) == (100, height, width)

    for indices in ([99], [0, 50, 99], [87, 33, 33, 5], np.linspace(0, 99, 8).astype(int), [45, 46, 47], [0]):
        chosen, metadata = read_video(data, indices)
        assert read_numbers(chosen) == list(indices)
        assert metadata.frames_indices == list(indices) and metadata.total_num_frames == 100
        assert np.array_equal(chosen, frames[np.asarray(indices)])


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize(
    "container, codec", [("mp4", "libx264"), ("webm", "libvpx-vp9"), ("gif", "gif"), ("avi", "mpeg4")]
)
def test_very_short(container, codec, count):
    data = encode_video(count, container, codec, "rgb8" if codec == "gif" else "yuv420p")
    frames, metadata = read_video(data)
    assert read_numbers(frames) == list(range(count))
    assert probe_video(data).total_num_frames == count


def test_edit_list():
    """An mp4 cut without encoding it again keeps frames before the cut, which are not to be shown."""
    cut = io.BytesIO()
    with (
        av.open(io.BytesIO(encode_video(100, options={"g": "20", "bf": "2"}))) as source,
        av.open(cut, "w", "mp4") as out,
    ):
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.pts, packet.dts, packet.stream = packet.pts - 7 * 512, packet.dts - 7 * 512, stream
                out.mux(packet)
    frames, metadata = read_video(cut)
    assert read_numbers(frames) == list(range(7, 100)) and metadata.total_num_frames == 93
    for number in (0, 1, 12, 13, 14, 50, 92):
        assert read_numbers(read_video(cut, [number])[0]) == [number + 7]


@pytest.mark.parametrize("codec", ["libx264", "mpeg2video"])
def test_stream_that_begins_between_key_frames(codec):
    """As received from the air: what is shown before the first key frame never counts, whichever frames are wanted."""
    data = encode_video(100, "mpegts", codec, options={"g": "20", "bf": "2"})
    frames, metadata = read_video(data[188 * 60 :])
    numbers = read_numbers(frames)
    assert numbers == list(range(numbers[0], 100)) and 5 < numbers[0] < 80
    assert metadata.total_num_frames == len(frames)
    for index in (0, 1, len(frames) // 2, len(frames) - 1):
        assert np.array_equal(read_video(data[188 * 60 :], [index])[0][0], frames[index])


@pytest.mark.parametrize("container, codec", [("mp4", "aac"), ("matroska", "aac"), ("mpegts", "aac"), ("avi", "mp2")])
def test_sound_beside_the_pictures(container, codec):
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        pictures = output.add_stream(
            "mpeg4" if container == "avi" else "libx264", rate=25, options={"g": "12", "bf": "2"}
        )
        pictures.width, pictures.height, pictures.pix_fmt = 128, 96, "yuv420p"
        sound = output.add_stream(codec, rate=44100)
        for number in range(60):
            output.mux(pictures.encode(av.VideoFrame.from_ndarray(number_picture(number), format="rgb24")))
            samples = av.AudioFrame.from_ndarray(np.zeros((1, 1764), np.int16), format="s16", layout="mono")
            samples.sample_rate, samples.pts, samples.time_base = 44100, number * 1764, Fraction(1, 44100)
            output.mux(sound.encode(samples))
        output.mux(pictures.encode(None))
        output.mux(sound.encode(None))
    assert read_numbers(read_video(file)[0]) == list(range(60))
    assert read_numbers(read_video(file, [7, 30, 59])[0]) == [7, 30, 59]


def test_metadata_of_steady_and_uneven_video():
    steady = probe_video(encode_video(50, rate=20))
    assert (steady.fps, steady.duration, steady.frames_indices) == (20.0, 2.5, None)
    uneven = probe_video(encode_video(100, milliseconds=UNEVEN))
    seconds = (UNEVEN[-1] - UNEVEN[0]) / 1000 * 100 / 99
    assert uneven.duration == pytest.approx(seconds, rel=0.01) and uneven.fps == pytest.approx(100 / seconds, rel=0.01)


def test_index_function_gets_metadata(mp4):
    seen = []

    def last_two(metadata):
        seen.append(metadata)
        return [metadata.total_num_frames - 2, metadata.total_num_frames - 1]

    frames, metadata = read_video(mp4, last_two)
    assert read_numbers(frames) == [58, 59]
    assert (seen[0].total_num_frames, seen[0].fps) == (60, 25.0)


@pytest.mark.parametrize("indices", [[60], [-1], [], [0.5], [[0, 1]], "all", [None]])
def test_bad_indices(mp4, indices):
    with pytest.raises(ValueError, match="indices must be"):
        read_video(mp4, indices)


@pytest.mark.parametrize("threads", [1, 0, 4])
@pytest.mark.parametrize(
    "name, indices, most",
    [
        ("mp4, key frames only", [10, 50, 90], 3),
        ("mp4, B-frames, long GOP", [99], 20),
        ("mkv, no frame count", [45, 85], 24),
        ("mp4, fragmented", [15, 95], 16),
        ("avi, mjpeg", [99], 1),
        ("webm, vp9", [21, 22, 23], 4),
    ],
)
def test_nothing_is_decoded_without_need(name, indices, most, threads, decoded_count):
    data = encode_video(**FILES[name])
    frames, _ = read_video(data, indices, threads=threads)
    assert read_numbers(frames) == indices
    assert decoded_count() <= most


@pytest.mark.parametrize(
    "name", ["mp4, B-frames, long GOP", "mp4, variable frame rate", "webm, vp9", "avi, h264, B-frames"]
)
def test_no_frame_is_decoded_twice(name, decoded_count):
    data = encode_video(**FILES[name])
    read_video(data, list(range(0, 100, 7)))
    assert decoded_count() <= 100


def test_index_spares_reading_the_file(mp4, tmp_path):
    read = []

    class Counting(io.BytesIO):
        def read(self, size=-1):
            data = super().read(size)
            read.append(len(data))
            return data

    big = encode_video(60, codec="mjpeg", pixels="yuvj420p", height=240, width=320, picture=_noise)
    read_video(Counting(big), [0, 59])
    assert sum(read) < len(big) / 4


def _noise(number, height, width):
    return np.random.default_rng(number).integers(0, 255, (height, width, 3), np.uint8)


TURNS = {
    "90 degrees": [0, QUARTER, 0, -QUARTER, 0, 0, 0, 0, ONE],
    "180 degrees": [-QUARTER, 0, 0, 0, -QUARTER, 0, 0, 0, ONE],
    "270 degrees": [0, -QUARTER, 0, QUARTER, 0, 0, 0, 0, ONE],
    "mirrored": [-QUARTER, 0, 0, 0, QUARTER, 0, 0, 0, ONE],
    "upside down": [QUARTER, 0, 0, 0, -QUARTER, 0, 0, 0, ONE],
    "mirrored and turned": [0, QUARTER, 0, QUARTER, 0, 0, 0, 0, ONE],
}
STORED = {  # how the upright picture has to be stored for the turn to put it right
    "90 degrees": lambda p: np.rot90(p, 1),
    "180 degrees": lambda p: np.rot90(p, 2),
    "270 degrees": lambda p: np.rot90(p, 3),
    "mirrored": lambda p: p[:, ::-1],
    "upside down": lambda p: p[::-1],
    "mirrored and turned": lambda p: p.transpose(1, 0, 2),
}


@pytest.mark.parametrize("turn", TURNS)
def test_display_matrix(turn):
    """A phone's portrait video: stored lying, to be turned clockwise by the angle. Upright it is 80 wide, 112 high."""
    lying = STORED[turn](np.zeros((112, 80, 3))).shape
    data = encode_video(
        20,
        height=lying[0],
        width=lying[1],
        display_matrix=TURNS[turn],
        picture=lambda number, *_: np.ascontiguousarray(STORED[turn](number_picture(number + 2051, 112, 80))),
    )
    frames, metadata = read_video(data, [3, 17])
    assert frames.shape == (2, 112, 80, 3) and (metadata.height, metadata.width) == (112, 80)
    assert read_numbers(frames) == [2054, 2068]
    assert read_video(data, [3], short_side=40)[0].shape == (1, 56, 40, 3)


def test_colours_and_their_order():
    def stripes(number, height, width):
        picture = np.zeros((height, width, 3), np.uint8)
        for channel in range(3):
            picture[:, channel * width // 3 : (channel + 1) * width // 3, channel] = 255
        return picture

    for options in (
        {},
        {"container": "matroska", "codec": "ffv1", "pixels": "bgra"},
        {"container": "gif", "codec": "gif", "pixels": "rgb8"},
    ):
        frame = read_video(encode_video(3, picture=stripes, **options), [1])[0][0].astype(int)
        means = [frame[:, i * 128 // 3 + 4 : (i + 1) * 128 // 3 - 4].mean((0, 1)) for i in range(3)]
        assert np.abs(np.array(means) - 255 * np.eye(3)).max() < 12


@pytest.mark.parametrize(
    "short_side, shape", [(None, (97, 180)), (64, (64, 119)), (97, (97, 180)), (200, (97, 180)), (1, (1, 2))]
)
def test_scaled_while_converting(short_side, shape):
    data = encode_video(10, container="matroska", codec="ffv1", height=97, width=180)
    frames, metadata = read_video(data, [7], short_side=short_side)
    assert frames.shape == (1, *shape, 3)
    assert (metadata.height, metadata.width) == (97, 180)
    if min(shape) > 32:
        assert read_number(frames[0]) == 7
    with pytest.raises(ValueError, match="short_side must be"):
        read_video(data, short_side=0)


def test_scaling_agrees_with_the_processor():
    """A cache of small frames may stand in for the files: bilinear and antialiased in both."""
    tiles = np.kron(_noise(0, 18, 24), np.ones((10, 10, 1), np.uint8))
    data = encode_video(2, "matroska", "ffv1", "yuv444p", height=180, width=240, picture=lambda *size: tiles)
    small = read_video(data, [1], short_side=60)[0].astype(int)
    full = torch.from_numpy(read_video(data, [1])[0]).permute(0, 3, 1, 2)
    expected = torch.nn.functional.interpolate(full.float(), (60, 80), mode="bilinear", antialias=True)
    difference = np.abs(small - expected.permute(0, 2, 3, 1).numpy())
    assert difference.mean() < 1 and difference.max() < 12


@pytest.mark.parametrize("pixels", ["yuv420p", "yuvj420p", "yuv420p10le"])
def test_colours_keep_their_sharpness_when_scaled(pixels):
    """Scaled as if after the conversion; libswscale doing both at once differs by 8, for it drops colour columns."""
    picture = lambda *_: np.kron(_noise(0, 45, 60), np.ones((8, 8, 1), np.uint8))  # noqa: E731
    data = encode_video(2, pixels=pixels, height=360, width=480, options={"crf": "10"}, picture=picture)
    small = read_video(data, [1], short_side=225)[0].astype(int)
    full = torch.from_numpy(read_video(data, [1])[0]).permute(0, 3, 1, 2)
    expected = resize(full, [225], antialias=True).permute(0, 2, 3, 1).numpy()
    assert np.abs(small - expected).mean() < 6


def test_every_kind_of_source(mp4, tmp_path):
    path = tmp_path / "Über uns, 100 %:#?.mp4"
    path.write_bytes(mp4)
    with open(path, "rb") as file:
        file.seek(1000)
        sources = [path, str(path), mp4, bytearray(mp4), memoryview(mp4), io.BytesIO(mp4), file]
        sources += [
            {"path": str(path), "bytes": None},
            {"path": "gone.mp4", "bytes": mp4},
            {"bytes": mp4},
            {"path": path},
        ]
        for source in sources:
            assert read_numbers(read_video(source, [41])[0]) == [41]
        assert not file.closed

    class OnlyRead:
        stream = io.BytesIO(mp4)

        def read(self, size=-1):
            return self.stream.read(size)

    assert read_numbers(read_video(OnlyRead(), [41])[0]) == [41]


def test_name_that_is_not_utf8(mp4, tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.mp4")
    with open(path, "wb") as file:
        file.write(mp4)
    assert read_numbers(read_video(path, [41])[0]) == [41]
    with pytest.raises(VideoDecodeError, match="no such file") as caught:
        read_video(path + "x")
    str(caught.value).encode()


def test_relative_path(mp4, tmp_path, monkeypatch):
    (tmp_path / "clip.mp4").write_bytes(mp4)
    monkeypatch.chdir(tmp_path)
    assert read_numbers(read_video("clip.mp4", [5])[0]) == [5]


def server(files: dict[str, bytes]):
    """Serves `files` by path, ignores Range, redirects /old to /clip.mp4, breaks off in the middle of /cut."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            path = self.path.split("?")[0]
            if path == "/old":
                self.send_response(302)
                self.send_header("Location", "/clip.mp4")
                self.end_headers()
                return
            if path not in files:
                return self.send_error(404)
            self.send_response(200)
            self.send_header("Content-Length", str(len(files[path])))
            self.end_headers()
            self.wfile.write(files[path][: len(files[path]) // (2 if path == "/cut" else 1)])

        def log_message(self, *args):
            pass

    return serving(Handler)


def test_url_from_a_server_that_ignores_range():
    big = encode_video(
        12,
        "mov",
        "png",
        "rgb24",
        height=240,
        width=320,
        picture=lambda *size: number_picture(*size) ^ _noise(*size) // 4,
    )
    assert big.index(b"moov") > 1_000_000
    with server({"/clip.mp4": big, "/cut": big, "/page": b"<html>hello</html>", "/nothing": b""}) as address:
        for url in (
            f"{address}/clip.mp4",
            f"{address}/clip.mp4?token=secret",
            f"{address}/old",
            f"{address}/clip.mp4".replace("http", "HTTP"),
        ):
            assert read_numbers(read_video(url, [11, 2])[0]) == [11, 2]
        for path, reason in {
            "/gone?key=secret": "404",
            "/cut": "download failed",
            "/page": "not a video",
            "/nothing": "no bytes",
        }.items():
            with pytest.raises(VideoDecodeError, match=reason) as caught:
                read_video(address + path)
            assert address + path.split("?")[0] in str(caught.value) and "secret" not in str(caught.value)
    with pytest.raises(VideoDecodeError, match="download failed"):
        read_video(f"{address}/clip.mp4")
    with pytest.raises(VideoDecodeError, match="download failed"):
        read_video("http://[broken/clip.mp4")


BROKEN = {
    "empty.mp4": (b"", "empty"),
    "text.txt": (b"just some text\n" * 100, "not a video"),
    "text.mp4": (b"just some text\n" * 100, "not a video"),
    "noise.mp4": (np.random.default_rng(0).bytes(50_000), "not a video"),
    "zeros.mp4": (bytes(50_000), "not a video"),
    "list.m3u8": (b"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nclip.mp4\n#EXT-X-ENDLIST\n", "not a video"),
    "list.ffconcat": (b"ffconcat version 1.0\nfile clip.mp4\n", "not a video"),
    "frames.sdp": (b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nm=video 9 RTP/AVP 96\n", "not a video"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_not_a_video(name, mp4, tmp_path):
    content, reason = BROKEN[name]
    (tmp_path / "clip.mp4").write_bytes(mp4)
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(VideoDecodeError, match=reason) as caught:
        read_video(path)
    assert str(path) in str(caught.value) and caught.value.source == str(path)
    with pytest.raises(VideoDecodeError, match="bytes"):
        read_video(content)


def test_missing_and_strange_files(tmp_path):
    with pytest.raises(VideoDecodeError, match="no such file"):
        read_video(tmp_path / "gone.mp4")
    with pytest.raises(VideoDecodeError, match="directory"):
        read_video(str(tmp_path))
    with pytest.raises(VideoDecodeError, match="not a regular file"):
        read_video("/dev/zero")
    for address in (
        "file:///etc/gone",
        "concat:a.mp4|b.mp4",
        "lavfi:testsrc",
        "a\0b",
    ):
        with pytest.raises(VideoDecodeError, match="no such file"):
            read_video(address)
    with open(__file__) as text, pytest.raises(VideoDecodeError, match="text mode"):
        read_video(text)
    with pytest.raises(VideoDecodeError, match='neither "path" nor "bytes"'):
        read_video({"path": None, "bytes": None})
    with pytest.raises(VideoDecodeError, match="no bytes"):
        read_video(b"")
    for wrong in (3, None, object()):
        with pytest.raises(TypeError, match="a video must be a path"):
            read_video(wrong)


@pytest.mark.parametrize("container, codec", [("wav", "pcm_s16le"), ("mp4", "aac"), ("flac", "flac")])
def test_audio_only(container, codec):
    with pytest.raises(VideoDecodeError, match="no video stream .streams: audio"):
        read_video(encode_sound(container, codec))


def test_truncated_without_index(mp4):
    with pytest.raises(VideoDecodeError, match="truncated"):
        read_video(mp4[: len(mp4) // 2])


@pytest.mark.parametrize("options", [{}, {"milliseconds": UNEVEN}])
def test_truncated_mp4_with_index_first(options):
    """The index counts 100 frames; what is there can be read, more cannot, and the message says how many there are."""
    data = encode_video(
        container_options={"movflags": "faststart"}, options={"g": "10", "bf": "2", "qp": "10"}, **options
    )
    half = data[: len(data) * 6 // 10]
    with pytest.raises(VideoDecodeError, match=r"only (\d+) of its 100 frames can be decoded") as caught:
        read_video(half, lambda metadata: [0, metadata.total_num_frames - 1])
    readable = int(str(caught.value).split("only ")[1].split(" ")[0])
    assert 5 < readable < 95
    wanted = list(range(0, readable - 10, 3))
    assert read_numbers(read_video(half, wanted)[0]) == wanted


@pytest.mark.parametrize("name", ["mkv, no frame count", "mpeg-ts, h264", "webm, vp9", "avi, mpeg4"])
def test_truncated_file_without_frame_count(name):
    """Nothing says how long it was: the video is what is there. The last frames may lack some they are made from."""
    data = encode_video(**FILES[name])
    frames, metadata = read_video(data[: len(data) * 6 // 10])
    numbers = read_numbers(frames)
    assert 20 < len(frames) < 80 and metadata.total_num_frames == len(frames)
    assert numbers[:-5] == list(range(len(frames) - 5)) and numbers == sorted(numbers)


def test_damaged_in_the_middle():
    data = bytearray(encode_video(container="matroska", options={"g": "10"}))
    data[len(data) // 2 : len(data) // 2 + 200] = bytes(200)
    try:
        frames, metadata = read_video(bytes(data), lambda metadata: [0, metadata.total_num_frames - 1])
    except VideoDecodeError as error:
        assert "can be decoded" in str(error)
    else:
        assert read_number(frames[0]) == 0 and metadata.total_num_frames <= 100


def test_memory_does_not_grow_over_300_opens(mp4, tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(mp4)
    process = psutil.Process()

    def open_often(times):
        for number in range(times):
            read_video((path, io.BytesIO(mp4), mp4)[number % 3], [number % 60], threads=1)
            with pytest.raises(VideoDecodeError):
                read_video(mp4[:500])

    open_often(30)
    before, files = process.memory_info().rss, process.num_fds()
    open_often(300)
    assert process.memory_info().rss - before < 8 * 2**20
    assert process.num_fds() == files


def test_error_goes_through_worker_processes(tmp_path):
    error = pickle.loads(pickle.dumps(VideoDecodeError("a.mp4", "it is empty")))
    assert isinstance(error, ValueError)
    assert (error.source, error.reason, str(error)) == ("a.mp4", "it is empty", "Cannot decode a.mp4: it is empty")

    class Missing(torch.utils.data.Dataset):
        def __len__(self):
            return 1

        def __getitem__(self, index):
            return read_video("gone.mp4")

    with pytest.raises(VideoDecodeError, match="gone.mp4"):
        list(torch.utils.data.DataLoader(Missing(), num_workers=1))


def test_one_thread_in_workers(mp4):
    class Threads(torch.utils.data.Dataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            with opened_video(mp4, None) as video:
                return video.stream.codec_context.thread_count

    assert [int(n) for n in torch.utils.data.DataLoader(Threads(), num_workers=1)] == [1, 1]
    with opened_video(mp4, 3) as video:
        assert video.stream.codec_context.thread_count == 3


def test_cover_picture_of_a_song_is_no_video():
    with pytest.raises(VideoDecodeError, match="no video stream"):
        read_video(encode_sound("mp4", "aac", cover=True))
