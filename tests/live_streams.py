"""Cameras of this machine, for the time of a test: servers that send a stream, or something else."""

import base64
import io
import itertools
import signal
import socket
import socketserver
import threading
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler

import av
import pytest
from PIL import Image

from tests.local_server import serving
from tests.video_files import number_picture

WAITED = 120


@pytest.fixture
def deadline():
    """A test that waits for what never comes fails."""

    def fail(*_):
        raise AssertionError(f"nothing of the kind came in {WAITED} s")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(WAITED)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def jpeg(number: int, height: int = 96, width: int = 128) -> bytes:
    """A JPEG of Pillow that shows a number."""
    content = io.BytesIO()
    Image.fromarray(number_picture(number, height, width)).save(content, "jpeg")
    return content.getvalue()


class Camera:
    """An http camera that sends Motion JPEG as cameras do.

    Args:
        scenes: for each connection in turn, the last one for all that follow, a generator of what is sent: JPEGs; None
            for silence until the client goes; bytes that are no JPEG are sent as they are. At its end the connection
            is cut.
        interval: seconds between them.
        password: user:password without which nothing is sent.

    Attributes:
        asked: number of connections so far.
        gone: set when the test is over.
    """

    def __init__(self, *scenes, interval: float = 0.02, password: str | None = None):
        self.scenes, self.interval, self.asked, self.gone = scenes, interval, 0, threading.Event()
        self.authorization = password and f"Basic {base64.b64encode(password.encode()).decode()}"

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        if self.authorization not in (None, handler.headers.get("Authorization")):
            handler.send_response(401)
            handler.send_header("WWW-Authenticate", 'Basic realm="camera"')
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        scene = self.scenes[min(self.asked, len(self.scenes) - 1)]
        self.asked += 1
        handler.send_response(200)
        handler.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        handler.end_headers()
        for part in scene():
            if part is None:
                self.gone.wait(60)
            if self.gone.wait(self.interval):
                return
            head = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(part)
            handler.wfile.write(head + part + b"\r\n" if part.startswith(b"\xff\xd8") else part)


@contextmanager
def http_camera(*scenes, **options):
    """(the camera, its address)"""
    camera = Camera(*scenes, **options)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            try:
                camera.answer(self)
            except OSError:
                pass  # the client has gone

        def log_message(self, *_):
            pass

    with serving(Handler) as address:
        try:
            yield camera, f"{address}/video"
        finally:
            camera.gone.set()


@contextmanager
def http_files(contents: dict[str, bytes]):
    """The address of a server that has these files: path -> content."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            content = contents.get(self.path)
            self.send_response(404 if content is None else 200)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *_):
            pass

    with serving(Handler) as address:
        yield address


@contextmanager
def tcp_stream(content: bytes, seconds: float):
    """The address of a server that sends `content`, evenly over `seconds`, to everybody who connects."""
    gone = threading.Event()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self):
            parts = 100
            size = -(-len(content) // parts)
            try:
                for first in range(0, len(content), size):
                    self.request.sendall(content[first : first + size])
                    if gone.wait(seconds / parts):
                        return
            except OSError:
                pass  # the client has gone

    with _tcp_server(Handler) as port:
        try:
            yield f"tcp://127.0.0.1:{port}"
        finally:
            gone.set()


@contextmanager
def _tcp_server(handler):
    class Server(socketserver.ThreadingTCPServer):
        daemon_threads, allow_reuse_address = True, True

    with Server(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@contextmanager
def rtsp_camera(rate: int = 25):
    """The address, with the password that it wants, of a camera that speaks RTSP with H.264 in RTP over TCP."""
    gone = threading.Event()

    class Rtsp(socketserver.StreamRequestHandler):
        def handle(self):
            try:
                while (method := self.answer()) is not None:
                    if method == "PLAY":
                        _send_rtp(self.request, rate, gone)
                        return
            except OSError:
                pass  # the client has gone

        def answer(self) -> str | None:
            request = self.rfile.readline().decode().split()
            if not request:
                return None
            headers = {}
            while line := self.rfile.readline().decode().strip():
                name, _, value = line.partition(":")
                headers[name.lower()] = value.strip()
            method, address, _ = request
            body, status, more = "", "200 OK", []
            if method == "DESCRIBE" and headers.get("authorization") != PASSWORD:
                status, more = "401 Unauthorized", ['WWW-Authenticate: Basic realm="camera"']
            elif method == "DESCRIBE":
                body, more = SDP, [f"Content-Base: {address}/", "Content-Type: application/sdp"]
            elif method == "SETUP":
                more = ["Transport: RTP/AVP/TCP;unicast;interleaved=0-1", "Session: 1"]
            else:
                more = ["Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN", "Session: 1"]
            head = [f"RTSP/1.0 {status}", f"CSeq: {headers['cseq']}", f"Content-Length: {len(body)}", *more]
            self.wfile.write("\r\n".join([*head, "", body]).encode())
            return method

    with _tcp_server(Rtsp) as port:
        try:
            yield f"rtsp://user:secret@127.0.0.1:{port}/stream1"
        finally:
            gone.set()


PASSWORD = "Basic dXNlcjpzZWNyZXQ="
SDP = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n"
SDP += "a=fmtp:96 packetization-mode=1\r\na=control:track1\r\n"


def _send_rtp(client: socket.socket, rate: int, gone: threading.Event) -> None:
    """Encode pictures in real time; libav makes RTP packets of them, which go to the client between RTSP's lines."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as inbox:
        inbox.bind(("127.0.0.1", 0))
        inbox.setblocking(False)
        with av.open(f"rtp://127.0.0.1:{inbox.getsockname()[1]}", "w", format="rtp") as output:
            options = {"g": "10", "tune": "zerolatency", "x264-params": "repeat-headers=1"}
            stream = output.add_stream("libx264", rate=rate, options=options)
            stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
            for number in itertools.count():
                frame = av.VideoFrame.from_ndarray(number_picture(number % 4000), format="rgb24")
                output.mux(stream.encode(frame))
                with suppress(BlockingIOError):
                    while packet := inbox.recv(65536):
                        client.sendall(b"$\0" + len(packet).to_bytes(2, "big") + packet)
                if gone.wait(1 / rate):
                    return
