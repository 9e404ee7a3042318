"""URLs are read by ranges: what is not looked at is not transferred."""

import re
from http.server import BaseHTTPRequestHandler

import numpy as np
import pytest

from flux_hf.processing.frame_sampling_fluxvit import sample_segments
from flux_hf.processing.video_decoding_fluxvit import VideoDecodeError, read_video
from flux_hf.processing.video_ranges_fluxvit import BLOCK_SIZE, CACHED_BLOCKS, DownloadError, RangeFile, open_url
from tests import local_server
from tests.video_files import encode_video, number_picture, read_numbers


class Server:
    """Serves one file; `sent` is the number of bytes of it that went out, `requests` how often it was asked for."""

    def __init__(self, content: bytes, ranges: bool = True, only_first: bool = False):
        self.content, self.ranges, self.only_first = content, ranges, only_first
        self.sent = self.requests = 0

    def answer(self, handler: BaseHTTPRequestHandler):
        self.requests += 1
        if handler.path == "/moved":
            handler.send_response(302)
            handler.send_header("Location", "/clip")
            handler.end_headers()
            return
        if handler.path == "/elsewhere":
            handler.send_response(302)
            handler.send_header("Location", "ftp://127.0.0.1/clip")
            handler.end_headers()
            return
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", handler.headers.get("Range", "")) if self.ranges else None
        body, status = self.content, 200
        if asked and int(asked[1]) >= len(self.content):
            return handler.send_error(416)
        if asked and self.only_first and int(asked[1]) > 0:
            return handler.send_error(503)
        if asked:
            first, last = int(asked[1]), min(int(asked[2]), len(self.content) - 1)
            body, status = self.content[first : last + 1], 206
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body)))
        if asked:
            handler.send_header("Content-Range", f"bytes {first}-{last}/{len(self.content)}")
        handler.end_headers()
        handler.wfile.write(body)
        self.sent += len(body)


def serving(server: Server):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            server.answer(self)

        def log_message(self, *args):
            pass

    return local_server.serving(Handler)


@pytest.fixture(scope="module")
def large() -> bytes:
    """A mov of 60 large frames, all key frames, with its index at the end."""

    def picture(number, height, width):
        noise = np.random.default_rng(number).integers(0, 48, (height, width, 3), np.uint8)
        return number_picture(number, height, width) // 2 + 32 + noise

    return encode_video(60, "mov", "png", "rgb24", height=240, width=320, picture=picture)


@pytest.mark.parametrize("path", ["/clip", "/moved"])
def test_only_what_is_looked_at_is_transferred(large, path):
    assert len(large) > 4_000_000
    server = Server(large)
    with serving(server) as address:
        frames, metadata = read_video(address + path, [0, 59])
    assert np.array_equal(frames, read_video(large, [0, 59])[0])
    assert metadata.total_num_frames == 60
    assert server.sent <= 5 * BLOCK_SIZE < len(large) / 3


def test_fast_frames_of_a_url(large):
    server = Server(large)
    with serving(server) as address:
        url = f"{address}/clip"
        frames, metadata = read_video(url, lambda metadata: sample_segments(metadata, 4, "fast"))
    assert metadata.frames_indices == [7, 22, 37, 51] and np.array_equal(frames, read_video(large, [7, 22, 37, 51])[0])
    assert server.sent < len(large) / 2


def test_a_server_that_ignores_ranges(large):
    server = Server(large, ranges=False)
    with serving(server) as address:
        frames, _ = read_video(f"{address}/clip", [0, 59])
    assert np.array_equal(frames, read_video(large, [0, 59])[0])
    assert (server.sent, server.requests) == (len(large), 1)


@pytest.mark.parametrize("container, codec", [("webm", "libvpx-vp9"), ("mpegts", "libx264"), ("avi", "mpeg4")])
def test_other_containers(container, codec):
    data = encode_video(40, container, codec, options={"g": "10"})
    with serving(Server(data)) as address:
        assert read_numbers(read_video(f"{address}/clip", [3, 39])[0]) == [3, 39]


def test_the_same_bytes_as_the_file():
    content = np.random.default_rng(0).bytes(3 * BLOCK_SIZE + 5)
    server = Server(content)
    with serving(server) as address, open_url(f"{address}/clip") as file:
        assert isinstance(file, RangeFile)
        for offset, size in ((BLOCK_SIZE - 3, 7), (0, 4), (len(content) - 2, 100), (2 * BLOCK_SIZE, 3)):
            file.seek(offset)
            assert _exactly(file, size) == content[offset : offset + size]
        assert file.seek(-4, 2) == len(content) - 4 and _exactly(file, 9) == content[-4:]
        file.seek(0)
        assert file.readall() == content
    assert server.sent == len(content)


def _exactly(file, size: int) -> bytes:
    parts = []
    while size and (part := file.read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def test_blocks_are_asked_for_in_fewer_and_larger_requests_and_few_are_kept():
    content = bytes((CACHED_BLOCKS + 40) * BLOCK_SIZE)
    server = Server(content)
    with serving(server) as address, open_url(f"{address}/clip") as file:
        while file.read(BLOCK_SIZE):
            assert len(file._blocks) <= CACHED_BLOCKS
    assert server.sent == len(content) and server.requests < 15


def test_failures_name_the_address_and_the_reason(large):
    with serving(Server(large, only_first=True)) as address:
        with pytest.raises(VideoDecodeError, match="the server answered 503") as caught:
            read_video(f"{address}/clip?key=secret", [0, 59])
        assert f"{address}/clip" in str(caught.value) and "secret" not in str(caught.value)
    with serving(Server(large)) as address, pytest.raises(VideoDecodeError, match="download failed"):
        read_video(f"{address}/elsewhere")
    with serving(Server(b"")) as address, pytest.raises(VideoDecodeError, match="no bytes to read"):
        read_video(f"{address}/clip")
    with pytest.raises(DownloadError, match="download failed"):
        open_url("http://127.0.0.1:9/clip")
