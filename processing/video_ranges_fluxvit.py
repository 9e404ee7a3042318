"""Files on http servers, read by ranges: only the parts that are asked for are transferred."""

import io
import re
from collections import OrderedDict
from http.client import HTTPException
from urllib import request
from urllib.error import HTTPError, URLError

TIMEOUT = 30.0
"""Seconds without an answer or new data after which a transfer is given up."""

BLOCK_SIZE = 256 * 1024
"""Bytes that are asked for at once: about a key frame of a 1080p video. A file read on in sequence is asked for in up
to `MOST_BLOCKS` blocks at once, each time twice as many as the time before."""

MOST_BLOCKS = 16
CACHED_BLOCKS = 64


class DownloadError(Exception):
    """A transfer failed; the message says why."""


def open_url(url: str) -> io.RawIOBase | io.BytesIO:
    """A binary file object, seekable, for an http or https address.

    Its first block is asked for as a range. If the server answers with the whole file, that is read into memory.

    Raises:
        DownloadError: no answer, an error status, or a transfer that broke off; also from `read` of what is returned.
    """
    response = _get(url, 0, BLOCK_SIZE)
    if response is None:
        return io.BytesIO()
    with response:
        total = _total(response)
        if total is not None:
            return RangeFile(response.url, total, _body(response))
        if response.status == 200:
            return io.BytesIO(_body(response))
    with _get(url) as response:
        return io.BytesIO(_body(response))


class RangeFile(io.RawIOBase):
    """A file of known size on a server that answers range requests; the last blocks read are kept.

    Args:
        url: its address, after all redirections.
        total: its size in bytes.
        first: the bytes of its first block.
    """

    def __init__(self, url: str, total: int, first: bytes):
        self._url, self._total, self._position = url, total, 0
        self._blocks = OrderedDict({0: first})
        self._next, self._ahead = 1, 1

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._total}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, buffer) -> int:
        if self._position >= self._total:
            return 0
        number, offset = divmod(self._position, BLOCK_SIZE)
        part = self._block(number)[offset : offset + len(buffer)]
        buffer[: len(part)] = part
        self._position += len(part)
        return len(part)

    def _block(self, number: int) -> bytes:
        if number not in self._blocks:
            self._fetch(number)
        self._blocks.move_to_end(number)
        return self._blocks[number]

    def _fetch(self, number: int):
        self._ahead = min(2 * self._ahead, MOST_BLOCKS) if number == self._next else 1
        start = number * BLOCK_SIZE
        stop = min(start + self._ahead * BLOCK_SIZE, self._total)
        response = _get(self._url, start, stop)
        if response is None:
            raise DownloadError("the file became shorter")
        with response:
            if _total(response) != self._total:
                raise DownloadError("the server no longer answers ranges of the same file")
            content = _body(response)
        if len(content) != stop - start:
            raise DownloadError(f"{len(content)} bytes came for {stop - start}")
        self._next = number + self._ahead
        for place in range(0, len(content), BLOCK_SIZE):
            self._blocks[number + place // BLOCK_SIZE] = content[place : place + BLOCK_SIZE]
        while len(self._blocks) > CACHED_BLOCKS:
            self._blocks.popitem(last=False)


def _get(url: str, start: int | None = None, stop: int | None = None):
    """The response; None when the range lies behind the end of the file."""
    headers = {"Accept-Encoding": "identity", "User-Agent": "flux_hf"}
    if stop is not None:
        headers["Range"] = f"bytes={start}-{stop - 1}"
    try:
        return _opener().open(request.Request(url, headers=headers), timeout=TIMEOUT)
    except HTTPError as error:
        error.close()
        if error.code == 416 and stop is not None:
            return None
        raise DownloadError(f"the server answered {error.code} {error.reason}") from error
    except (URLError, HTTPException, OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise DownloadError(f"the download failed: {reason or type(error).__name__}") from error


def _opener() -> request.OpenerDirector:
    """As urllib's own, without its handlers of files and ftp, which a redirection could reach."""
    opener = request.OpenerDirector()
    for handler in (
        request.ProxyHandler,
        request.UnknownHandler,
        request.HTTPHandler,
        request.HTTPSHandler,
        request.HTTPDefaultErrorHandler,
        request.HTTPRedirectHandler,
        request.HTTPErrorProcessor,
    ):
        opener.add_handler(handler())
    return opener


def _total(response) -> int | None:
    """The size of the whole file, from an answer that holds the range asked for."""
    found = re.fullmatch(r"bytes \d+-\d+/(\d+)", response.headers.get("Content-Range", ""))
    return int(found[1]) if response.status == 206 and found else None


def _body(response) -> bytes:
    try:
        return response.read()
    except (HTTPException, OSError) as error:
        raise DownloadError(f"the download failed: {error or type(error).__name__}") from error
