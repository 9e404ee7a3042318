"""What can be watched and how libav opens it: cameras, addresses of streams, and whatever a video can be."""

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import av

from flux_hf.processing.video_container_fluxvit import CONTAINERS, MOST_PIXELS
from flux_hf.processing.video_source_fluxvit import VideoDecodeError, opened_source, source_name

PROTOCOLS = {
    "http": "http,https,httpproxy,tcp,tls,crypto",
    "https": "http,https,httpproxy,tcp,tls,crypto",
    "rtmp": "rtmp,rtmps,tcp,tls",
    "rtmps": "rtmp,rtmps,tcp,tls",
    "rtsp": "rtp,srtp,udp,tcp,tls",
    "rtsps": "rtp,srtp,udp,tcp,tls",
    "tcp": "tcp",
    "udp": "udp",
}
"""Beginning of an address -> the protocols that libav may use for it. A playlist cannot make it open files."""

FORMATS = f"{CONTAINERS},hls,mpjpeg,rtsp"
CAMERA_FORMAT = "video4linux2,v4l2"

WITHOUT_STAMPS = ("mjpeg", "mpjpeg")
"""Formats of which libav only counts the pictures: they are shown when they arrive."""

OPTIONS = {
    "analyzeduration": "1000000",  # microseconds: what is found out about a stream before its first picture
    "rtsp_flags": "prefer_tcp",
}


@dataclass(frozen=True)
class OpenedStream:
    """A stream from which packets can be read.

    Attributes:
        container, stream: of PyAV.
        network: it comes over the network, and may be late by itself.
        finite: it has an end, after which nothing is to come.
        paced: it comes as fast as it is read, so that somebody has to wait for the time of each picture.
        stamped: its time stamps say when its pictures are shown.
    """

    container: object
    stream: object
    network: bool
    finite: bool
    paced: bool
    stamped: bool

    def described(self) -> str:
        """`640x480 h264 (rtsp)`, for people; the size only where it is known before the first picture."""
        context = self.stream.codec_context
        size = f"{context.width}x{context.height} " if context.width else ""
        return f"{size}{context.name} ({self.container.format.name.partition(',')[0]})"


def is_network(source) -> bool:
    """Whether a source is the address of a stream that libav reads itself."""
    return isinstance(source, str) and source.partition("://")[0].lower() in PROTOCOLS and "://" in source


def is_camera(source) -> bool:
    """Whether a source is the path of a device."""
    try:
        return isinstance(source, (str, os.PathLike)) and stat.S_ISCHR(os.stat(source).st_mode)
    except (OSError, ValueError):
        return False


def stream_name(source) -> str:
    """What messages call a source: of an address what cannot be secret. Cameras take passwords before the host, in the
    query, and some in the path (`/user=…&password=…`)."""
    if not is_network(source):
        return source_name(source)
    scheme, _, rest = source.partition("://")
    rest = re.split(r"[?#]", rest, maxsplit=1)[0]
    server, slash, path = rest.partition("/")
    server = server.rpartition("@")[2]
    if "@" in path or not re.fullmatch(r"(\[[^]]*\]|[^:]*)(:\d*)?", server):
        return f"{scheme}://..."  # perhaps a password with a slash in it
    open_path = "/".join(part if "=" not in part else "..." for part in path.split("/"))
    return f"{scheme}://{server}{slash}{open_path}"


@contextmanager
def opened_stream(source, camera: bool, timeout: float) -> Iterator[OpenedStream]:
    """Context manager around the open stream of a source.

    Args:
        camera: whether it is one, which a path no longer tells once the camera is unplugged.
        timeout: seconds that opening, and then each packet, may take.

    Raises:
        VideoDecodeError: it cannot be opened or has no picture; also for what libav raises inside.
    """
    name = stream_name(source)
    try:
        if camera:
            opened = av.open(os.fspath(source), format=CAMERA_FORMAT, timeout=timeout)
            yield from _of(opened, name, network=False, finite=False)
        elif is_network(source):
            scheme = urlsplit(source).scheme.lower()
            options = OPTIONS | {"protocol_whitelist": PROTOCOLS[scheme], "format_whitelist": FORMATS}
            opened = av.open(source, container_options=options, timeout=timeout, metadata_errors="ignore")
            yield from _of(opened, name, network=True, finite=bool(opened.duration) or opened.size > 0)
        else:
            options = {"protocol_whitelist": "file", "format_whitelist": CONTAINERS}
            with opened_source(source) as file:
                opened = av.open(file, container_options=options, metadata_errors="ignore")
                yield from _of(opened, name, network=False, finite=True)
    except av.error.ExitError as error:
        raise VideoDecodeError(name, "nothing came in time") from error
    except (av.error.FFmpegError, OSError) as error:  # their messages hold the whole address
        raise VideoDecodeError(name, f"{error.strerror or 'it cannot be read'} ({type(error).__name__})") from error


def _of(container, name: str, *, network: bool, finite: bool) -> Iterator[OpenedStream]:
    with container:
        stream = container.streams.best("video")
        if stream is None or stream.codec_context is None:
            raise VideoDecodeError(name, "it has no video stream that can be decoded")
        stream.thread_type = "SLICE"  # frames decoded side by side come later
        stream.codec_context.options = {"max_pixels": str(MOST_PIXELS)}
        kind = container.format.name.partition(",")[0]
        try:
            paced, stamped = finite or kind == "hls", kind not in WITHOUT_STAMPS
            yield OpenedStream(container, stream, network, finite, paced, stamped)
        finally:
            stream.codec_context.flush_buffers()  # see VideoFile.close
