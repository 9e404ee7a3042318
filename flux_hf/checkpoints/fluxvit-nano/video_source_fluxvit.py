"""Where a video comes from: local paths, addresses, bytes, file objects and `{"path", "bytes"}` dictionaries.

Only local files and file objects ever reach libav. URLs are read by ranges where the server answers those, else
whole: libav's own http client needs a server that does when an mp4 keeps its index at the end, and any other string
would let libav open playlists, devices and further protocols. A string is an address only where it begins with a
protocol, and then only that one is opened; the content of a file opens nothing.
"""

import io
import os
from contextlib import ExitStack, contextmanager
from inspect import iscoroutinefunction

from .video_http_fluxvit import DEFAULT_LIMITS, DownloadError, DownloadLimits
from .video_storage_fluxvit import (
    DECOMPRESSING,
    is_address,
    local_path,
    open_address,
    said,
    shown_address,
    whole,
)


class VideoDecodeError(ValueError):
    """A video could not be read. `source` names it, `reason` says why; both are in the message.

    Raised for whatever is wrong with one input (missing, empty, not a video, truncated, download failed), so that a
    training loop can skip the file and go on. It can be pickled: DataLoader workers hand it to the main process.
    """

    def __init__(self, source: str, reason: str | None = None):
        super().__init__(*([source] if reason is None else [source, reason]))
        self.source = source
        self.reason = reason

    def __str__(self):
        return self.source if self.reason is None else f"Cannot decode {self.source}: {self.reason}"


def is_video_source(value) -> bool:
    """Whether `value` is something that has to be decoded: path, URL, bytes, file object or `{"path", "bytes"}`."""
    if isinstance(value, dict):
        return "path" in value or "bytes" in value
    return isinstance(value, (str, os.PathLike, bytes, bytearray, memoryview)) or hasattr(value, "read")


def source_name(source) -> str:
    """What messages call `source`. User names and passwords in addresses are left out, and the query of a URL, which
    may hold a signature."""
    if isinstance(source, dict):
        path = source.get("path")
        return source_name(source.get("bytes") if path is None else path)
    if isinstance(source, (str, os.PathLike)):
        name = os.fsdecode(source).encode("utf-8", "backslashreplace").decode()
        return shown_address(name) if is_address(source) else name
    if isinstance(source, (bytes, bytearray, memoryview)):
        return f"<{len(source)} bytes>"
    if hasattr(source, "read"):
        name = getattr(source, "name", None)
        return source_name(name) if name and isinstance(name, str) else f"<{type(source).__name__}>"
    return f"<{type(source).__name__}>"


@contextmanager
def opened_source(source, limits: DownloadLimits = DEFAULT_LIMITS):
    """Context manager around what `av.open` may be given for `source`: a `file:` string or a binary file object.

    A file object is read from its beginning whatever its position, and is left open. In a dictionary `bytes` wins over
    `path`, as in the `datasets` library.

    Args:
        limits: of what is downloaded, unpacked from an archive, or read whole because it cannot seek.

    Raises:
        VideoDecodeError: missing, a directory, not a regular file, empty, download failed, text-mode file object; for
            whatever reading fails with, also while the video is decoded.
        TypeError: `source` is of a kind that is not accepted.
    """
    name = source_name(source)
    if isinstance(source, dict):
        content = source.get("bytes")
        source = source.get("path") if content is None else content
        if source is None:
            raise VideoDecodeError(name, 'the dictionary holds neither "path" nor "bytes"')
    if not is_video_source(source):
        raise TypeError(
            "a video must be a path, an http(s) URL or another address, bytes, a binary file object or a dictionary "
            f"with 'path' or 'bytes', got {type(source).__name__}"
        )
    path = local_path(source) if isinstance(source, str) else None
    if isinstance(source, os.PathLike):
        path = os.fsdecode(source)
    if path is not None:
        _check_file(path, name)
        if _is_unicode(path):
            yield f"file:{os.path.abspath(path)}"
            return
    with ExitStack() as opened:
        if path is not None:
            file = opened.enter_context(open(path, "rb"))
        elif isinstance(source, (bytes, bytearray, memoryview)):
            file = io.BytesIO(source)
        else:
            with _failures(name):
                file = open_address(source, limits) if isinstance(source, str) else _seekable(source, name, limits)
            if isinstance(source, str):
                opened.enter_context(file)
        yield opened.enter_context(_read_only(file, name))


@contextmanager
def _failures(name: str):
    """Whatever a file object raises, it is a VideoDecodeError."""
    try:
        yield
    except VideoDecodeError:
        raise
    except DownloadError as error:
        raise VideoDecodeError(name, str(error)) from error
    except Exception as error:
        raise VideoDecodeError(name, f"the file object cannot be read: {said(error)}") from error


@contextmanager
def _read_only(file, name: str):
    """`_ReadOnly` for a context in which nothing but its failure counts, once it failed."""
    reader = _ReadOnly(file, name)
    try:
        if not reader.read(1):
            raise VideoDecodeError(name, "there are no bytes to read")
        reader.seek(0)
        yield reader
    except Exception:
        if reader.failure is not None:
            raise reader.failure from reader.failure.__cause__
        raise
    if reader.failure is not None:
        raise reader.failure


class _ReadOnly:
    """All that libav sees of a file object: bytes. PyAV would go by its `mode` and `writable`, and trust that `read`
    gives no more than it was asked for.

    Whatever the file object raises becomes a VideoDecodeError, `failure`. From then on there seem to be no more bytes:
    PyAV prints a second exception that comes before the first has gone through libav.
    """

    def __init__(self, file, name: str):
        self._file, self.name, self.failure = file, name, None

    def read(self, size: int) -> bytes:
        return self._tried(lambda: self._read(size), b"")

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._tried(lambda: self._seek(offset, whence), 0)

    def tell(self) -> int:
        return self._tried(self._file.tell, 0)

    def _tried(self, action, otherwise):
        if self.failure is not None:
            return otherwise
        try:
            with _failures(self.name):
                return action()
        except VideoDecodeError as error:
            self.failure = error
            raise

    def _read(self, size: int) -> bytes:
        part = self._file.read(size)
        if not isinstance(part, (bytes, bytearray, memoryview)):
            raise VideoDecodeError(self.name, f"the file object gives {type(part).__name__}, not bytes")
        if len(part) > size:
            raise VideoDecodeError(self.name, f"the file object gives {len(part)} bytes where {size} are asked for")
        return bytes(part)

    def _seek(self, offset: int, whence: int) -> int:
        self._file.seek(offset, whence)
        return self._file.tell()


def _is_unicode(path: str) -> bool:
    """Whether a path can be given to libav; others hold bytes that are no UTF-8."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_file(path: str, name: str):
    if os.path.isdir(path):
        raise VideoDecodeError(name, "it is a directory")
    if not os.path.exists(path):
        raise VideoDecodeError(name, "no such file")
    if not os.path.isfile(path):
        raise VideoDecodeError(name, "it is not a regular file")
    if os.path.getsize(path) == 0:
        raise VideoDecodeError(name, "the file is empty")
    if not os.access(path, os.R_OK):
        raise VideoDecodeError(name, "no permission to read it")


def _seekable(file, name: str, limits: DownloadLimits):
    if isinstance(file, io.TextIOBase):
        raise VideoDecodeError(name, 'the file is open in text mode, open it with mode "rb"')
    if iscoroutinefunction(file.read):
        raise VideoDecodeError(name, "its read() is asynchronous; give the file behind it, which of an upload is .file")
    if not _can_seek(file):
        return whole(file, limits)
    file.seek(0)
    return whole(file, limits) if isinstance(file, DECOMPRESSING) else file


def _can_seek(file) -> bool:
    try:
        return hasattr(file, "seek") and hasattr(file, "tell") and (not hasattr(file, "seekable") or file.seekable())
    except AttributeError:  # of a member of a tar stream
        return False
