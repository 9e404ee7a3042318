"""Where a video comes from: local paths, http(s) URLs, bytes, file objects and `{"path", "bytes"}` dictionaries.

Only local files and file objects ever reach libav. URLs are read by ranges where the server answers those, else
whole: libav's own http client needs a server that does when an mp4 keeps its index at the end, and any other string
would let libav open playlists, devices and further protocols.
"""

import io
import os
from contextlib import contextmanager

from .video_ranges_fluxvit import DownloadError, open_url


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


def is_url(source) -> bool:
    """Whether `source` is an http or https address."""
    return isinstance(source, str) and source.lower().startswith(("http://", "https://"))


def is_video_source(value) -> bool:
    """Whether `value` is something that has to be decoded: path, URL, bytes, file object or `{"path", "bytes"}`."""
    if isinstance(value, dict):
        return "path" in value or "bytes" in value
    return isinstance(value, (str, os.PathLike, bytes, bytearray, memoryview)) or hasattr(value, "read")


def source_name(source) -> str:
    """What error messages call `source`. The query of a URL is left out, it may hold a signature."""
    if isinstance(source, dict):
        path = source.get("path")
        return source_name(source.get("bytes") if path is None else path)
    if is_url(source):
        return source.split("?", 1)[0].split("#", 1)[0]
    if isinstance(source, (str, os.PathLike)):
        return os.fsdecode(source).encode("utf-8", "backslashreplace").decode()
    if isinstance(source, (bytes, bytearray, memoryview)):
        return f"<{len(source)} bytes>"
    if hasattr(source, "read"):
        name = getattr(source, "name", None)
        return name if isinstance(name, str) else f"<{type(source).__name__}>"
    return f"<{type(source).__name__}>"


@contextmanager
def opened_source(source):
    """Context manager around what `av.open` may be given for `source`: a `file:` string or a binary file object.

    A file object is read from its beginning whatever its position, and is left open. In a dictionary `bytes` wins over
    `path`, as in the `datasets` library.

    Raises:
        VideoDecodeError: missing, a directory, not a regular file, empty, download failed, text-mode file object.
        TypeError: `source` is of a kind that is not accepted.
    """
    name = source_name(source)
    if isinstance(source, dict):
        content = source.get("bytes")
        source = source.get("path") if content is None else content
        if source is None:
            raise VideoDecodeError(name, 'the dictionary holds neither "path" nor "bytes"')
    if is_url(source):
        try:
            yield _not_empty(open_url(source), name)
        except DownloadError as error:
            raise VideoDecodeError(name, str(error)) from error
    elif isinstance(source, (str, os.PathLike)):
        path = os.fsdecode(source)
        _check_file(path, name)
        try:
            path.encode()
        except UnicodeEncodeError:
            with open(path, "rb") as file:
                yield file
        else:
            yield f"file:{os.path.abspath(path)}"
    elif isinstance(source, (bytes, bytearray, memoryview)):
        yield _not_empty(io.BytesIO(source), name)
    elif hasattr(source, "read"):
        yield _not_empty(_seekable(source, name), name)
    else:
        raise TypeError(
            "a video must be a path, an http(s) URL, bytes, a binary file object or a dictionary with 'path' or "
            f"'bytes', got {type(source).__name__}"
        )


def _check_file(path: str, name: str):
    if os.path.isdir(path):
        raise VideoDecodeError(name, "it is a directory")
    if not os.path.exists(path):
        hint = "; of addresses only http:// and https:// are accepted" if "://" in path else ""
        raise VideoDecodeError(name, f"no such file{hint}")
    if not os.path.isfile(path):
        raise VideoDecodeError(name, "it is not a regular file")
    if os.path.getsize(path) == 0:
        raise VideoDecodeError(name, "the file is empty")
    if not os.access(path, os.R_OK):
        raise VideoDecodeError(name, "no permission to read it")


def _seekable(file, name: str):
    if isinstance(file, io.TextIOBase):
        raise VideoDecodeError(name, 'the file is open in text mode, open it with mode "rb"')
    try:
        if hasattr(file, "seek") and (not hasattr(file, "seekable") or file.seekable()):
            file.seek(0)
            return file
        return io.BytesIO(file.read())
    except (OSError, ValueError, TypeError) as error:
        raise VideoDecodeError(name, f"the file object cannot be read: {error}") from error


def _not_empty(file, name: str):
    if not file.read(1):
        raise VideoDecodeError(name, "there are no bytes to read")
    file.seek(0)
    return file
