"""URLs: read by ranges, so that what is not looked at is not transferred, and safe from what servers send."""

import base64
import gzip
import logging
import re
import time
import zlib
from contextlib import suppress
from http.server import BaseHTTPRequestHandler

import numpy as np
import pytest
from huggingface_hub.errors import StrictDataclassFieldValidationError

from flux_hf import FluxVideoProcessor, default_checkpoint
from flux_hf.processing.frame_sampling_fluxvit import sample_segments
from flux_hf.processing.video_decoding_fluxvit import VideoDecodeError, read_video
from flux_hf.processing.video_http_fluxvit import Address, DownloadLimits
from flux_hf.processing.video_ranges_fluxvit import BLOCK_SIZE, CACHED_BLOCKS, DownloadError, RangeFile, open_url
from flux_hf.processing.views_fluxvit import Views, read_views
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


class Answers:
    """A server for whatever is asked for: `answer(handler)`; `asked` are the paths and headers that came."""

    def __init__(self, answer):
        self.answer, self.asked = answer, []

    def __enter__(self) -> str:
        def get(handler):
            self.asked.append((handler.path, dict(handler.headers)))
            with suppress(OSError):  # the client hangs up
                self.answer(handler)

        methods = {"do_GET": get, "log_message": lambda *_: None}
        self.serving = local_server.serving(type("Handler", (BaseHTTPRequestHandler,), methods))
        return self.serving.__enter__()

    def __exit__(self, *error):
        return self.serving.__exit__(*error)


def send(handler, body: bytes, status: int = 200, length: int | None = None, **headers):
    handler.send_response(status)
    length = len(body) if length is None else length
    for name, value in {"Content-Length": length, **headers}.items():
        if value is not None:
            handler.send_header(name.replace("_", "-"), str(value))
    handler.end_headers()
    handler.wfile.write(body)


def send_without_end(handler, part: bytes = bytes(2**20), start: bytes = b"HTTP/1.0 200 OK\r\n\r\n"):
    handler.wfile.write(start)
    while True:
        handler.wfile.write(part)


def content(url: str, **limits) -> bytes:
    with open_url(url, DownloadLimits(**limits)) as file:
        return file.read()


PASTED = {
    "/kölner dom.mp4": "/k%C3%B6lner%20dom.mp4",
    "/k%C3%B6lner%20dom.mp4": "/k%C3%B6lner%20dom.mp4",
    "/100% sure %zz.mp4?a=ü&b=c%2Fd+e#part": "/100%25%20sure%20%25zz.mp4?a=%C3%BC&b=c%2Fd+e",
    "/[a](b)'!$,;:@=~|{^}.mp4": "/[a](b)'!$,;:@=~%7C%7B%5E%7D.mp4",
    "": "/",
    "?x=1": "/?x=1",
}


def test_addresses_as_people_paste_them():
    server = Answers(lambda handler: send(handler, b"a video"))
    with server as address:
        for path in PASTED:
            assert content(address + path) == b"a video"
    assert [path for path, _ in server.asked] == list(PASTED.values())


@pytest.mark.parametrize(
    ("url", "ascii_url"),
    [
        ("http://müller.de/x.mp4", "http://xn--mller-kva.de/x.mp4"),
        ("HTTPS://MÜLLER.DE:8443/Ä", "https://xn--mller-kva.de:8443/%C3%84"),
        ("http://[::1]:80/x.mp4", "http://[::1]:80/x.mp4"),
        ("http://me:pw@bücher.example/", "http://xn--bcher-kva.example/"),
    ],
)
def test_hosts(url, ascii_url):
    assert Address.parse(url).url == ascii_url


@pytest.mark.parametrize(
    "url", ["http://[x/", "http://h:port/", "http://me:p/w@h/", "http://", "http://\ud800/", "http://" + "ä" * 99]
)
def test_what_is_no_address(url):
    with pytest.raises(DownloadError, match="not a valid address") as caught:
        open_url(url)
    assert "p/w" not in str(caught.value)


def guarded(handler):
    user = base64.b64encode("mé:s3cret@/".encode()).decode()
    if handler.headers.get("Authorization") != f"Basic {user}":
        return send(handler, b"", 401)
    if handler.path == "/moved":
        return send(handler, b"", 307, Location="/clip")
    asked = re.fullmatch(r"bytes=(\d+)-(\d+)", handler.headers["Range"])
    first, last = int(asked[1]), min(int(asked[2]), 2 * BLOCK_SIZE - 1)
    send(handler, bytes(last + 1 - first), 206, Content_Range=f"bytes {first}-{last}/{2 * BLOCK_SIZE}")


def test_user_name_and_password(caplog):
    """They are in every request to their server and in no message."""
    caplog.set_level(logging.DEBUG)
    with Answers(guarded) as address:
        url = address.replace("://", "://m%C3%A9:s3cret%40%2F@")
        for path in ("/clip", "/moved"):
            with open_url(url + path) as file:
                assert len(file.readall()) == 2 * BLOCK_SIZE
                assert "s3cret" not in f"{file!r} {vars(file)}"
        with pytest.raises(VideoDecodeError) as caught:
            read_video(url.replace("s3cret", "s3cretive") + "/clip?key=s3cret")
        assert str(caught.value) == f"Cannot decode {address}/clip: the server answered 401 Unauthorized"
    assert "s3cret" not in caplog.text


def test_a_redirection_tells_no_password_to_another_server():
    other = Answers(lambda handler: send(handler, b"theirs"))
    with other as there:
        server = Answers(lambda handler: send(handler, b"", 302, Location=there.replace("://", handler.path[1:])))
        with server as here:
            for given in ("://", "://you:own@"):
                assert content(f"{here.replace('://', '://me:s3cret@')}/{given}") == b"theirs"
    assert all("Authorization" in headers for _, headers in server.asked)
    assert [headers.get("Authorization") for _, headers in other.asked] == [
        None,
        "Basic " + base64.b64encode(b"you:own").decode(),
    ]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirections(status):
    places = {"/a": "/b%20c", "/b%20c": "d?e=ü".encode().decode("latin-1"), "/d?e=%C3%BC": None, "/loop": "/loop"}

    def answer(handler):
        place = places[handler.path]
        send(handler, b"found") if place is None else send(handler, b"", status, Location=place)

    with Answers(answer) as address:
        assert content(f"{address}/a") == b"found"
        with pytest.raises(DownloadError, match="more than 10 redirections"):
            open_url(f"{address}/loop")


def test_what_is_sent_beside_a_redirection_is_not_read():
    start = b"HTTP/1.0 302 Found\r\nLocation: /found\r\n\r\n"

    def answer(handler):
        send(handler, b"found") if handler.path == "/found" else send_without_end(handler, start=start)

    with Answers(answer) as address:
        assert content(address) == b"found"


def raw_deflate(content: bytes) -> bytes:
    return zlib.compress(content)[2:-4]


ENCODINGS = {
    "gzip": gzip.compress,
    "x-gzip": lambda content: gzip.compress(content[:9]) + gzip.compress(content[9:]),
    "deflate": zlib.compress,
    "Deflate": raw_deflate,
    "identity": bytes,
}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("status", [200, 206])
def test_compressed_answers(encoding, status):
    """Ranges of what is compressed are of no use: all of it is asked for."""
    original = bytes(range(256)) * 1000
    packed = ENCODINGS[encoding](original)

    def answer(handler):
        if status == 206 and "Range" in handler.headers and encoding != "identity":
            part = {"Content_Range": f"bytes 0-9/{len(packed)}", "Content_Encoding": encoding}
            return send(handler, packed[:10], 206, **part)
        send(handler, packed, Content_Encoding=encoding)

    with Answers(answer) as address:
        assert content(address) == original


CHUNKED = {"Content_Length": None, "Transfer_Encoding": "chunked"}
CHUNK = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
BOMB = gzip.compress(bytes(10_000_000))
STATUS = b"HTTP/1.0 200 OK\r\n"
PART = {"Content_Range": "bytes 0-9/20"}
BAD_ANSWERS = {
    "404": (lambda handler: send(handler, b"", 404), "the server answered 404"),
    "204": (lambda handler: send(handler, b"", 204), "the server answered 204"),
    "not http": (lambda handler: handler.wfile.write(b"220 ftp ready\r\n"), "download failed"),
    "no answer": (lambda handler: None, "download failed"),
    "cut off": (lambda handler: send(handler, b"abc", length=9), "ended after 3 of 9 bytes"),
    "cut chunk": (lambda handler: send(handler, b"5\r\nab", **CHUNKED), "download failed"),
    "cut between chunks": (lambda handler: send(handler, b"2\r\nab\r\n", **CHUNKED), "download failed"),
    "cut gzip": (lambda handler: send(handler, BOMB[:-1], Content_Encoding="gzip"), "ended too soon|more than 1000000"),
    "short gzip": (lambda handler: send(handler, BOMB[:99], Content_Encoding="gzip"), "ended too soon"),
    "no gzip": (lambda handler: send(handler, b"\x1f\x8babc", Content_Encoding="gzip"), "gzip encoding is damaged"),
    "other encoding": (lambda handler: send(handler, b"abc", Content_Encoding="br"), "encoding br; accepted are gzip"),
    "absurd length": (lambda handler: send(handler, b"abc", length=10**18), "more than 1000000 bytes"),
    "longer than any number": (lambda handler: send(handler, b"abc", length=10**40), "more than 1000000 bytes"),
    "no end": (send_without_end, "more than 1000000 bytes"),
    "no end of chunks": (
        lambda handler: send_without_end(handler, b"400\r\n" + bytes(1024) + b"\r\n", CHUNK),
        "more than 1000000 bytes",
    ),
    "gzip bomb": (lambda handler: send(handler, BOMB, Content_Encoding="gzip"), "more than 1000000 bytes"),
    "no end of headers": (
        lambda handler: send_without_end(handler, b"a: b\r\n", STATUS),
        "download failed",
    ),
    "no end of a header": (lambda handler: send_without_end(handler, b"a", STATUS), "download failed"),
    "no end of a range": (
        lambda handler: send_without_end(handler, start=b"HTTP/1.0 206 Partial\r\nContent-Range: bytes 0-9/10\r\n\r\n"),
        "11 bytes came for 10",
    ),
    "only ranges": (lambda handler: send(handler, bytes(10), 206, **PART), "the server answered 206"),
}


@pytest.mark.parametrize("kind", BAD_ANSWERS)
def test_bad_answers(kind):
    answer, reason = BAD_ANSWERS[kind]
    with Answers(answer) as address, pytest.raises(VideoDecodeError, match=reason):
        read_video(address, limits=DownloadLimits(size=1_000_000))


def silent(handler):
    handler.rfile.read(1)  # until the client hangs up


def silent_after(start: bytes):
    def answer(handler):
        handler.wfile.write(start)
        silent(handler)

    return answer


SLOW = {
    "silent": silent,
    "silent after the headers": silent_after(b"HTTP/1.0 200 OK\r\nContent-Length: 9\r\n\r\nabc"),
    "silent in the headers": silent_after(b"HTTP/1.0 200 OK\r\nContent-Le"),
    "silent in a range": silent_after(b"HTTP/1.0 206 Partial\r\nContent-Range: bytes 0-9/10\r\n\r\nabc"),
    "answers that none follows": lambda handler: send_without_end(handler, b"HTTP/1.1 100 Continue\r\n\r\n", b""),
    "little at once": lambda handler: send_without_end(handler, b"1\r\na\r\n", CHUNK),
}


@pytest.mark.parametrize("kind", SLOW)
def test_the_time_of_all_transfers_has_a_bound(kind):
    """However much comes before it, and however often something comes."""
    with Answers(SLOW[kind]) as address:
        started = time.monotonic()
        with pytest.raises(VideoDecodeError, match=r"more than 0\.2 seconds \(option download_seconds\)"):
            read_video(address, limits=DownloadLimits(seconds=0.2))
        assert time.monotonic() - started < 5


def test_the_time_of_many_transfers_adds_up():
    """Each is quick enough."""
    blocks, requests = 40, []

    def answer(handler):
        requests.append(handler.path)
        first, last = map(int, re.fullmatch(r"bytes=(\d+)-(\d+)", handler.headers["Range"]).groups())
        send(handler, bytes(last + 1 - first), 206, Content_Range=f"bytes {first}-{last}/{blocks * BLOCK_SIZE}")

    with Answers(answer) as address, open_url(address, DownloadLimits(seconds=1e9)) as file:
        spent = file._requests._seconds_left
        file.readall()
        assert file._requests._seconds_left < spent < 1e9
        file._requests._seconds_left = 0
        file._blocks.clear()
        file.seek(0)
        with pytest.raises(DownloadError, match="download_seconds"):
            file.read(1)


WRONG_RANGES = {
    "one earlier": lambda first, last, total: (first - 1, last - 1, total) if first else (0, last - 1, total),
    "one later": lambda first, last, total: (first + 1, last + 1, total),
    "another size": lambda first, last, total: (first, last, total + 1),
    "unknown size": lambda first, last, total: (first, last, "*"),
    "less": lambda first, last, total: (first, last - 1, total),
    "beyond any number": lambda first, last, total: (first, last, 10**30),
}


@pytest.mark.parametrize("kind", WRONG_RANGES)
@pytest.mark.parametrize("place", [0, BLOCK_SIZE])
def test_wrong_ranges_are_not_taken_for_those_asked_for(kind, place):
    """In the first answer, the whole file is read instead; in later ones reading ends."""
    original = np.random.default_rng(0).bytes(2 * BLOCK_SIZE + 9)

    def answer(handler):
        if "Range" not in handler.headers:
            return send(handler, original)
        first, last = map(int, re.fullmatch(r"bytes=(\d+)-(\d+)", handler.headers["Range"]).groups())
        last, total = min(last, len(original) - 1), len(original)
        if first == place:
            first, last, total = WRONG_RANGES[kind](first, last, total)
        send(handler, original[first : last + 1], 206, Content_Range=f"bytes {first}-{last}/{total}")

    if place == 0 and kind != "another size":
        with Answers(answer) as address, open_url(address) as file:
            assert file.read() == original
    else:
        with Answers(answer) as address, open_url(address) as file:
            with pytest.raises(DownloadError, match="no longer answers ranges"):
                file.readall()


def test_limits_are_options_of_the_processor(large):
    processor = FluxVideoProcessor.from_pretrained(default_checkpoint(), download_bytes=1_000_000)
    with serving(Server(large, ranges=False)) as address:
        for options in ({}, {"fit_source": True}):
            with pytest.raises(VideoDecodeError, match="more than 1000000 bytes"):
                processor([address] * 2, **options)
        with pytest.raises(VideoDecodeError, match="more than 1000000 bytes"):
            read_views(address, processor, [(64, None)], Views(2))
        assert len(processor(address, download_bytes=2**30)["pixel_values_videos"]) == 1
    with Answers(silent) as address, pytest.raises(VideoDecodeError, match="more than 0.1 seconds"):
        processor(address, download_seconds=0.1)
    for wrong in (
        {"download_seconds": 0},
        {"download_seconds": float("nan")},
        {"download_bytes": 0},
        {"download_bytes": 1.5},
    ):
        with pytest.raises(StrictDataclassFieldValidationError, match=next(iter(wrong))):
            processor(large, **wrong)
