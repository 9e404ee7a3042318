"""Cameras of this machine, for the time of a test: servers that send a stream, or something else."""

import io
import signal
import socketserver
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

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

    Attributes:
        asked: number of connections so far.
        gone: set when the test is over.
    """

    def __init__(self, *scenes, interval: float = 0.02):
        self.scenes, self.interval, self.asked, self.gone = scenes, interval, 0, threading.Event()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
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

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads, allow_reuse_address = True, True

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"tcp://127.0.0.1:{server.server_address[1]}"
        gone.set()
        server.shutdown()
