"""One GET request: addresses as people paste them, and an answer that has bounds.

urllib and http.client know redirections, proxies and certificates, but no client knows a bound on the size of an answer
or on the time until its last byte: servers that send without end, or a byte now and then, would be read for ever.
"""

import base64
import io
import re
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from urllib import request
from urllib.parse import quote, unquote, urljoin, urlsplit, urlunsplit

TIMEOUT = 30.0
"""Seconds without an answer or new data after which a transfer is given up."""

MOST_REDIRECTIONS = 10
PART_SIZE = 64 * 1024
PUNCTUATION = "!#$%&'()*+,/:;=?@[]~"
"""What is left as it is in addresses, beside letters, digits and `_.-`."""


class DownloadError(Exception):
    """Something cannot be fetched; the message says why."""


@dataclass(frozen=True)
class DownloadLimits:
    """What reading one video may take.

    Attributes:
        seconds: all transfers of it together; time between them, in which frames are decoded, does not count.
        size: bytes of it that are held in memory, where its server or its archive gives it only as a whole.
    """

    seconds: float = 300.0
    size: int = 2**30

    def check_size(self, size: int):
        """Raises DownloadError for more bytes than that."""
        if size > self.size:
            raise DownloadError(f"it has more than {self.size} bytes, the most that are held (option download_bytes)")


DEFAULT_LIMITS = DownloadLimits()


@dataclass(frozen=True)
class Address:
    """An http or https address.

    Attributes:
        url: in ASCII, without user name and password.
        authorization: the header that holds these, None without.
    """

    url: str
    authorization: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, url: str) -> "Address":
        """Non-ASCII characters, spaces and others that addresses cannot hold are quoted; what is quoted stays.

        Raises:
            DownloadError: it is none. Nothing of it is in the message, which a password may be part of.
        """
        try:
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https"):
                raise DownloadError(f"the download failed: it leads to {parts.scheme}:, not to http:// or https://")
            host = parts.hostname if parts.hostname.isascii() else parts.hostname.encode("idna").decode()
            place = f"[{host}]" if ":" in host else host
            place += "" if parts.port is None else f":{parts.port}"
            ascii_url = urlunsplit((parts.scheme, place, _quoted(parts.path), _quoted(parts.query), ""))
            user = parts.netloc.rpartition("@")[0]
            return cls(ascii_url, _basic(user) if user else None)
        except (ValueError, AttributeError):
            raise DownloadError("the download failed: it is not a valid address") from None

    def redirected(self, location: str) -> "Address":
        """Where `location`, the header of an answer, leads. A password is not told to another server."""
        target = Address.parse(urljoin(self.url, quote(location, PUNCTUATION, encoding="latin-1")))
        if target.authorization is None and target.server() in (self.server(), self.server(secure=True)):
            return replace(target, authorization=self.authorization)
        return target

    def server(self, secure: bool = False) -> tuple:
        """Scheme, host and port; with `secure` those of the same server's https."""
        parts = urlsplit(self.url)
        if secure and parts.scheme == "http" and parts.port in (None, 80):
            return "https", parts.hostname, 443
        return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}[parts.scheme]


class Requests:
    """Those that are made for one video.

    Args:
        limits: of all of them together.
    """

    def __init__(self, limits: DownloadLimits):
        self.limits, self._seconds_left = limits, limits.seconds

    @contextmanager
    def response(self, address: Address, start: int | None = None, stop: int | None = None):
        """Context manager around the final address and the response to a GET, whatever its status, for the bytes from
        `start` to `stop` if these are given. Time passes until it is left.

        Raises:
            DownloadError: no answer, one that breaks off or that is too slow; also for such errors inside.
        """
        begun = time.monotonic()
        deadline = begun + self._seconds_left
        try:
            address, response = _redirected(address, start, stop, deadline)
            with response:
                yield address, response
        except (HTTPException, OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            if time.monotonic() >= deadline:
                reason = f"it took more than {self.limits.seconds:g} seconds (option download_seconds)"
            raise DownloadError(f"the download failed: {str(reason) or type(error).__name__}") from error
        finally:
            self._seconds_left -= time.monotonic() - begun

    def body(self, response: HTTPResponse) -> io.BytesIO:
        """All of it, decompressed.

        Raises:
            DownloadError: it is larger than the limit, breaks off, or its encoding is damaged or not known.
        """
        expected = response.length
        if expected is not None:
            self.limits.check_size(expected)
        content = io.BytesIO()
        for part in _decompressed(_parts(response, expected), response.headers.get("Content-Encoding", "identity")):
            content.write(part)
            self.limits.check_size(content.tell())
        content.seek(0)
        return content


def _redirected(address: Address, start, stop, deadline: float) -> tuple[Address, HTTPResponse]:
    headers = {"Accept-Encoding": "identity", "User-Agent": "flux_hf"}
    if stop is not None:
        headers["Range"] = f"bytes={start}-{stop - 1}"
    for _ in range(MOST_REDIRECTIONS + 1):
        own = headers if address.authorization is None else headers | {"Authorization": address.authorization}
        asked = request.Request(address.url, headers=own)
        response = _opener(deadline).open(asked, timeout=_seconds_until(deadline))
        location = response.headers.get("Location")
        if response.status not in (301, 302, 303, 307, 308) or location is None:
            return address, response
        response.close()
        address = address.redirected(location)
    raise DownloadError(f"the download failed: more than {MOST_REDIRECTIONS} redirections")


def _opener(deadline: float) -> request.OpenerDirector:
    """One that answers with whatever the server says, error or not, and knows proxies, but neither files nor ftp."""
    opener = request.OpenerDirector()
    for handler in (request.ProxyHandler(), request.UnknownHandler(), _Http(deadline)):
        opener.add_handler(handler)
    return opener


class _Http(request.HTTPHandler):
    """Of http and https, with answers that are read until a deadline."""

    def __init__(self, deadline: float):
        super().__init__()
        self._deadline = deadline

    def http_open(self, asked):
        return self.do_open(partial(_connection, HTTPConnection, self._deadline), asked)

    def https_open(self, asked):
        return self.do_open(partial(_connection, HTTPSConnection, self._deadline), asked)

    https_request = request.HTTPHandler.http_request


def _connection(kind: type[HTTPConnection], deadline: float, host: str, **options) -> HTTPConnection:
    connection = kind(host, **options)
    connection.response_class = partial(_Response, deadline)
    return connection


class _Response(HTTPResponse):
    """A response that is read, status line and headers included, until a deadline."""

    def __init__(self, deadline: float, sock, *args, **kwargs):
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_TimedReads(self.fp.detach(), sock, deadline))


class _TimedReads(io.RawIOBase):
    def __init__(self, raw: io.RawIOBase, sock, deadline: float):
        self._raw, self._sock, self._deadline = raw, sock, deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int | None:
        self._sock.settimeout(_seconds_until(self._deadline))
        return self._raw.readinto(buffer)

    def close(self):
        self._raw.close()
        super().close()


def _seconds_until(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    return min(TIMEOUT, left)


def _parts(response: HTTPResponse, expected: int | None) -> Iterator[bytes]:
    came = 0
    while part := response.read(PART_SIZE):
        came += len(part)
        yield part
    if expected is not None and came < expected:
        raise DownloadError(f"the download failed: it ended after {came} of {expected} bytes")


def _decompressed(parts: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        yield from parts
        return
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise DownloadError(f"the server sends it with the encoding {encoding}; accepted are gzip and deflate")
    decoder = None
    try:
        for part in parts:
            while part:
                decoder = decoder or zlib.decompressobj(_window_bits(part))
                yield decoder.decompress(part, PART_SIZE)
                part = decoder.unconsumed_tail
                if decoder.eof:  # gzip files may be joined
                    part, decoder = decoder.unused_data, None
    except zlib.error as error:
        raise DownloadError(f"the download failed: its {encoding} encoding is damaged ({error})") from error
    if decoder is not None:
        raise DownloadError("the download failed: it ended too soon")


def _window_bits(start: bytes) -> int:
    """For zlib: gzip, or zlib, or what has no header, as some servers understand "deflate"."""
    zlib_header = len(start) > 1 and start[0] & 15 == 8 and int.from_bytes(start[:2], "big") % 31 == 0
    return zlib.MAX_WBITS | 32 if zlib_header or start.startswith(b"\x1f\x8b") else -zlib.MAX_WBITS


def _quoted(part: str) -> str:
    return quote(re.sub("%(?![0-9A-Fa-f]{2})", "%25", part), PUNCTUATION)


def _basic(user: str) -> str:
    name, _, password = user.partition(":")
    return "Basic " + base64.b64encode(f"{unquote(name)}:{unquote(password)}".encode()).decode()
