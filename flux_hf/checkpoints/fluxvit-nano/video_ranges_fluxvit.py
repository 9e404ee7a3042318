"""Files on http servers, read by ranges: only the parts that are asked for are transferred."""

import io
import re
from collections import OrderedDict

from .video_http_fluxvit import DEFAULT_LIMITS, Address, DownloadError, DownloadLimits, Requests

BLOCK_SIZE = 256 * 1024
"""Bytes that are asked for at once: about a key frame of a 1080p video. A file read on in sequence is asked for in up
to `MOST_BLOCKS` blocks at once, each time twice as many as the time before."""

MOST_BLOCKS = 16
CACHED_BLOCKS = 64


def open_url(url: str, limits: DownloadLimits = DEFAULT_LIMITS) -> io.RawIOBase | io.BytesIO:
    """A binary file object, seekable, for an http or https address.

    Its first block is asked for as a range. If the server answers with the whole file, or compressed, or with another
    part than asked for, the whole is read into memory.

    Raises:
        DownloadError: no answer, an error status, a transfer that broke off, or one beyond the limits; also from
            `read` of what is returned.
    """
    requests = Requests(limits)
    with requests.response(Address.parse(url), 0, BLOCK_SIZE) as (address, response):
        if response.status == 416:  # nothing is there, not even a first byte
            return io.BytesIO()
        total = _total(response, 0, BLOCK_SIZE)
        if total is not None:
            return RangeFile(requests, address, total, _range(response, min(BLOCK_SIZE, total)))
        if response.status == 200:
            return requests.body(response)
        if response.status != 206:
            raise _refused(response)
    with requests.response(address) as (_, response):
        if response.status != 200:
            raise _refused(response)
        return requests.body(response)


class RangeFile(io.RawIOBase):
    """A file of known size on a server that answers range requests; the last blocks read are kept.

    Args:
        requests: what asks for the next blocks.
        address: where it is, after all redirections.
        total: its size in bytes.
        first: the bytes of its first block.
    """

    def __init__(self, requests: Requests, address: Address, total: int, first: bytes):
        self._requests, self._address = requests, address
        self._total, self._position = total, 0
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
        with self._requests.response(self._address, start, stop) as (_, response):
            if response.status not in (200, 206):
                raise _refused(response)
            if _total(response, start, stop) != self._total:
                raise DownloadError("the server no longer answers ranges of the same file")
            content = _range(response, stop - start)
        self._next = number + self._ahead
        for place in range(0, len(content), BLOCK_SIZE):
            self._blocks[number + place // BLOCK_SIZE] = content[place : place + BLOCK_SIZE]
        while len(self._blocks) > CACHED_BLOCKS:
            self._blocks.popitem(last=False)


def _total(response, start: int, stop: int) -> int | None:
    """The size of the whole file, from an answer that holds the range asked for, as it is."""
    found = re.fullmatch(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})", response.headers.get("Content-Range", ""))
    if response.status != 206 or not found or response.headers.get("Content-Encoding", "identity") != "identity":
        return None
    first, last, total = map(int, found.groups())
    return total if (first, last + 1) == (start, min(stop, total)) else None


def _range(response, size: int) -> bytes:
    content = response.read(size + 1)
    if len(content) != size:
        raise DownloadError(f"{len(content)} bytes came for {size}")
    return content


def _refused(response) -> DownloadError:
    return DownloadError(f"the server answered {response.status} {response.reason}")
