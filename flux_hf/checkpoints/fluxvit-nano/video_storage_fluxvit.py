"""Addresses other than http: `hf://`, `s3://` and what else fsspec knows, and members of archives.

`datasets` names videos so: `zip://clips/x.mp4::/data/v.zip`, `hf://datasets/user/name/x.mp4`. fsspec comes with
huggingface_hub, which registers `hf` there. What an archive is in is opened as any source is; in particular http stays
with our own reader, which has limits.
"""

import bz2
import gzip
import io
import lzma
import os
import re
import tarfile
import zipfile
from contextlib import closing
from urllib.parse import unquote

from .video_http_fluxvit import DownloadError, DownloadLimits
from .video_ranges_fluxvit import open_url

DECOMPRESSING = (gzip.GzipFile, bz2.BZ2File, lzma.LZMAFile, zipfile.ZipExtFile)
"""File objects that begin anew when they are read backwards."""


def is_address(source) -> bool:
    """Whether `source` is a string that starts with a protocol, `zip://` or `hf://` for example."""
    return isinstance(source, str) and re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", source) is not None


def is_url(source) -> bool:
    """Whether `source` is an http or https address."""
    return isinstance(source, str) and source.lower().startswith(("http://", "https://"))


def local_path(source: str) -> str | None:
    """The path that a string names, also after `file://`; None for another address.

    After `file://` comes a path as it is, or where there is none of that name, a quoted one.
    """
    if not is_address(source):
        return source
    if not source.lower().startswith("file://"):
        return None
    path = source[len("file://") :].removeprefix("localhost")
    return path if os.path.exists(path) else unquote(path)


def shown_address(address: str) -> str:
    """The address without what may be secret: user names, passwords, and the query of URLs."""
    link, chained, rest = address.partition("::") if _protocol(address) in ARCHIVES else (address, "", "")
    if chained:
        return f"{link}::{shown_address(rest)}" if is_address(rest) else address
    protocol, _, place = link.partition("://")
    if is_url(link):
        place = re.split("[?#]", place, maxsplit=1)[0]
    server, slash, path = place.partition("/")
    server = server.rpartition("@")[2]
    if is_url(link) and not re.fullmatch(r"(\[[^]]*\]|[^:]*)(:\d*)?", server):
        return f"{protocol}://..."  # no valid address, perhaps a password with a slash in it
    return f"{protocol}://{server}{slash}{path}"


def open_address(address: str, limits: DownloadLimits):
    """A binary file object for an address that is no local path.

    Raises:
        DownloadError: it cannot be opened, or its protocol is not known or needs a package that is not installed.
    """
    if is_url(address):
        return open_url(address, limits)
    protocol = _protocol(address)
    link, chained, archive = address.partition("::")
    if chained and protocol in ARCHIVES:
        with closing(_open_any(archive, limits)) as file:
            return _member(protocol, link.partition("://")[2].lstrip("/"), file, limits)
    if protocol in ARCHIVES:
        raise DownloadError(f"{protocol}:// names a member, the archive follows: {protocol}://MEMBER::ARCHIVE")
    if chained:
        raise DownloadError(f"what is chained with :: must be a member of an archive: {', '.join(ARCHIVES)}")
    return _stored(address, protocol)


def whole(file, limits: DownloadLimits) -> io.BytesIO:
    """The rest of a file object, in memory."""
    content = io.BytesIO()
    while part := file.read(2**20):
        content.write(part)
        limits.check_size(content.tell())
    content.seek(0)
    return content


def _open_any(source: str, limits: DownloadLimits):
    path = local_path(source)
    if path is None:
        file = open_address(source, limits)
        return io.BufferedReader(file) if isinstance(file, io.RawIOBase) else file
    try:
        return open(path, "rb")
    except OSError as error:
        raise DownloadError(f"the archive cannot be read: {error.strerror}") from error


def _zip_member(file, name: str):
    return zipfile.ZipFile(file).open(name)


def _tar_member(file, name: str):
    member = tarfile.open(fileobj=file).extractfile(name)
    if member is None:
        raise DownloadError(f"{name} is not a file in the archive")
    return member


ARCHIVES = {
    "zip": _zip_member,
    "tar": _tar_member,
    "gzip": lambda file, name: gzip.GzipFile(fileobj=file),
    "bz2": lambda file, name: bz2.BZ2File(file),
    "xz": lambda file, name: lzma.LZMAFile(file),
}
"""Protocol -> a function of the archive and the name of the member, which those that hold a single file ignore."""


def _member(protocol: str, name: str, file, limits: DownloadLimits) -> io.BytesIO:
    try:
        return whole(ARCHIVES[protocol](file, name), limits)
    except DownloadError:
        raise
    except Exception as error:  # of a dozen classes, for what can be wrong with an archive
        raise DownloadError(f"{name} cannot be read from the archive: {said(error)}") from error


def _stored(address: str, protocol: str):
    import fsspec  # not before it is needed; it comes with huggingface_hub

    try:
        storage, path = fsspec.url_to_fs(address)
        return storage.open(path, "rb")
    except ImportError as error:
        raise DownloadError(f"{protocol}:// needs a package: {error}") from error
    except Exception as error:  # whatever the package of the protocol raises
        raise DownloadError(f"it cannot be opened: {said(error).replace(address, shown_address(address))}") from error


def _protocol(address: str) -> str:
    return address.partition("://")[0].lower()


def said(error: Exception) -> str:
    """What an exception of foreign code says, in one line, with its class."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
