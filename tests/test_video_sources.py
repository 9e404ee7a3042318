"""Every kind of thing that a video may come from, beside paths and URLs: file objects and addresses."""

import bz2
import gzip
import io
import lzma
import re
import tarfile
import tempfile
import zipfile
from pathlib import Path

import fsspec
import numpy as np
import pytest

from flux_hf import VideoDecodeError
from flux_hf.processing.video_decoding_fluxvit import read_video
from flux_hf.processing.video_http_fluxvit import DownloadLimits
from flux_hf.processing.video_source_fluxvit import source_name
from tests.test_url_ranges import Server, serving
from tests.video_files import encode_video, number_picture, read_numbers


@pytest.fixture(scope="module")
def clip() -> bytes:
    """An mp4 of more than libav reads at once, with its index at the end."""

    def picture(number, height, width):
        noise = np.random.default_rng(number).integers(0, 48, (height, width, 3), np.uint8)
        return number_picture(number, height, width) // 2 + 32 + noise

    data = encode_video(60, picture=picture, options={"preset": "ultrafast", "crf": "20"})
    assert len(data) > 200_000
    return data


def zipped(clip: bytes, name: str = "a/x.mp4", method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr(name, clip)
    return file.getvalue()


def tarred(clip: bytes, mode: str = "w") -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:
        archive.add(Path(__file__).parent, "a", recursive=False)
        entry = tarfile.TarInfo("a/x.mp4")
        entry.size = len(clip)
        archive.addfile(entry, io.BytesIO(clip))
    return file.getvalue()


def spooled(clip: bytes, max_size: int):
    file = tempfile.SpooledTemporaryFile(max_size)
    file.write(clip)
    return file


def temporary(clip: bytes):
    file = tempfile.TemporaryFile()  # its name is a number
    file.write(clip)
    return file


def from_tar_stream(clip: bytes):
    archive = tarfile.open(fileobj=io.BytesIO(tarred(clip, "w:gz")), mode="r|gz")
    return next(archive.extractfile(entry) for entry in archive if entry.isfile())


def in_memory(clip: bytes):
    fsspec.filesystem("memory").pipe("/sources/x.mp4", clip)
    return fsspec.open("memory://sources/x.mp4").open()


class Reader:
    """No more of a file object than what is asked for, and attributes that say nothing or something odd."""

    def __init__(self, clip: bytes, **attributes):
        self.file = io.BytesIO(clip)
        vars(self).update(attributes)

    def read(self, size: int = -1):
        return self.file.read(size)


class Seeker(Reader):
    def seek(self, offset: int, whence: int = 0):
        self.file.seek(offset, whence)  # and gives nothing, as mmap does

    def tell(self) -> int:
        return self.file.tell()


class Bytearrays(Seeker):
    def read(self, size: int = -1):
        return bytearray(super().read(size))


FILE_OBJECTS = {
    "an upload below its limit": lambda clip: spooled(clip, 2**20),
    "an upload beyond its limit": lambda clip: spooled(clip, 10),
    "TemporaryFile": temporary,
    "gzip": lambda clip: gzip.GzipFile(fileobj=io.BytesIO(gzip.compress(clip))),
    "bz2": lambda clip: bz2.BZ2File(io.BytesIO(bz2.compress(clip))),
    "xz": lambda clip: lzma.LZMAFile(io.BytesIO(lzma.compress(clip))),
    "member of a zip": lambda clip: zipfile.ZipFile(io.BytesIO(zipped(clip))).open("a/x.mp4"),
    "member of a tar": lambda clip: tarfile.open(fileobj=io.BytesIO(tarred(clip))).extractfile("a/x.mp4"),
    "member of a tar stream": from_tar_stream,
    "fsspec": in_memory,
    "only read": Reader,
    "seek without a position": Seeker,
    "mode w": lambda clip: Seeker(clip, mode="w"),
    "mode 1": lambda clip: Seeker(clip, mode=1),
    "writable": lambda clip: Seeker(clip, write=None, writable=lambda: True),
    "name in half": lambda clip: Seeker(clip, name="\ud800.mp4"),
    "name None": lambda clip: Seeker(clip, name=None),
    "bytearray": Bytearrays,
}


@pytest.mark.parametrize("kind", FILE_OBJECTS)
def test_file_objects(clip, kind):
    assert read_numbers(read_video(FILE_OBJECTS[kind](clip), [3, 59])[0]) == [3, 59]


class Breaking(Seeker):
    def read(self, size: int = -1):
        if self.file.tell() > 50_000:
            raise KeyError("the line is cut")
        return super().read(size)

    def seek(self, offset: int, whence: int = 0):
        if offset > 50_000:
            raise KeyError("the line is cut")
        super().seek(offset, whence)


class Asynchronous(Seeker):
    async def read(self, size: int = -1):
        return super().read(size)


def closed(clip: bytes):
    file = io.BytesIO(clip)
    file.close()
    return file


BROKEN = {
    "breaks": (Breaking, "the file object cannot be read: KeyError: 'the line is cut'"),
    "breaks without seek": (lambda clip: Reader(clip, read=Breaking(clip).read), "KeyError: 'the line is cut'"),
    "asynchronous": (Asynchronous, "its read() is asynchronous"),
    "text": (lambda clip: io.StringIO("a video"), "text mode"),
    "text of another kind": (lambda clip: Seeker(clip, read=lambda size: "text"), "gives str, not bytes"),
    "nothing": (lambda clip: Seeker(clip, read=lambda size: None), "gives NoneType, not bytes"),
    "too much": (lambda clip: Seeker(clip, read=lambda size: clip), "bytes where 1 are asked for"),
    "closed": (closed, "I/O operation on closed file"),
    "cut gzip": (lambda clip: gzip.GzipFile(fileobj=io.BytesIO(gzip.compress(clip)[:-99])), "EOFError"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_file_objects_that_cannot_be_read(clip, kind, capfd):
    make, reason = BROKEN[kind]
    with pytest.raises(VideoDecodeError, match=re.escape(reason)):
        read_video(make(clip))
    assert read_numbers(read_video(clip, [3])[0]) == [3]  # nothing of that error is left in PyAV
    assert capfd.readouterr().err == ""


def test_a_bound_on_what_is_read_whole(clip):
    limits = DownloadLimits(size=10_000)
    bomb = gzip.GzipFile(fileobj=io.BytesIO(gzip.compress(bytes(2_000_000))))
    for source in (bomb, Reader(bytes(20_000))):
        with pytest.raises(VideoDecodeError, match="more than 10000 bytes, .* download_bytes"):
            read_video(source, limits=limits)
    assert len(read_video(io.BytesIO(clip), limits=limits)[0]) == 60  # can seek, is not held


ARCHIVES = {
    "zip": ("zip://a/x.mp4::", zipped),
    "zip, not compressed": ("zip:///a/x.mp4::", lambda clip: zipped(clip, method=zipfile.ZIP_STORED)),
    "tar": ("tar://a/x.mp4::", tarred),
    "tar.gz": ("tar://a/x.mp4::", lambda clip: tarred(clip, "w:gz")),
    "gzip": ("gzip://x.mp4::", gzip.compress),
    "bz2": ("bz2://x.mp4::", bz2.compress),
    "xz": ("xz://x.mp4::", lzma.compress),
    "tar in a zip": ("tar://a/x.mp4::zip://v.tar::", lambda clip: zipped(tarred(clip), "v.tar")),
}


@pytest.mark.parametrize("kind", ARCHIVES)
def test_members_of_archives(tmp_path, clip, kind):
    prefix, pack = ARCHIVES[kind]
    path = tmp_path / "an archive"
    path.write_bytes(pack(clip))
    fsspec.filesystem("memory").pipe("/sources/archive", path.read_bytes())
    with serving(Server(path.read_bytes())) as server:
        for place in (path, f"file://{path}", path.as_uri(), "memory://sources/archive", f"{server}/archive"):
            assert read_numbers(read_video(f"{prefix}{place}", [3, 59])[0]) == [3, 59]


def test_the_member_of_a_large_archive_behind_a_url(clip):
    """The rest of the archive is not transferred."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("before", bytes(3_000_000))
        archive.writestr("x.mp4", clip)
        archive.writestr("after", bytes(3_000_000))
    server = Server(file.getvalue())
    with serving(server) as address:
        assert read_numbers(read_video(f"zip://x.mp4::{address}/v.zip", [59])[0]) == [59]
    assert server.sent < 2_000_000


def test_other_addresses(tmp_path, clip):
    fsspec.filesystem("memory").pipe("/sources/x.mp4", clip)
    (tmp_path / "a b%20ü.mp4").write_bytes(clip)
    for address in (
        "memory://sources/x.mp4",
        f"file://{tmp_path}/a b%20ü.mp4",
        (tmp_path / "a b%20ü.mp4").as_uri(),
        f"FILE://localhost{tmp_path}/a b%20ü.mp4",
    ):
        for source in (address, {"path": address, "bytes": None}):
            assert read_numbers(read_video(source, [59])[0]) == [59]


def test_addresses_that_cannot_be_read(tmp_path, clip):
    (tmp_path / "v.zip").write_bytes(zipped(clip))
    (tmp_path / "damaged.zip").write_bytes(zipped(clip)[:-200])
    (tmp_path / "v.tar").write_bytes(tarred(clip))
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(bytes(2_000_000)))
    fsspec.register_implementation("fluxvit-absent", "absent.FileSystem", errtxt="Install absent to access it")
    for address, reason in {
        "fluxvit-absent://x.mp4": "fluxvit-absent:// needs a package: Install absent to access it",
        "rtsp://127.0.0.1/x": "Protocol not known: rtsp",
        "memory://sources/gone.mp4": "cannot be opened: FileNotFoundError",
        f"zip://gone.mp4::{tmp_path}/v.zip": "gone.mp4 cannot be read from the archive: KeyError",
        f"zip://a/x.mp4::{tmp_path}/gone.zip": "the archive cannot be read: No such file",
        f"zip://a/x.mp4::{tmp_path}": "the archive cannot be read: Is a directory",
        f"zip://a/x.mp4::{tmp_path}/damaged.zip": "BadZipFile",
        f"zip://a/x.mp4::{tmp_path}/v.tar": "BadZipFile",
        f"tar://a::{tmp_path}/v.tar": "a is not a file in the archive",
        f"tar://a/x.mp4::{tmp_path}/v.zip": "ReadError",
        "zip://a/x.mp4": "zip://MEMBER::ARCHIVE",
        "filecache://x.mp4::http://127.0.0.1:9/": "must be a member of an archive: zip, tar, gzip, bz2, xz",
        f"file://{tmp_path}/gone.mp4": "no such file",
        f"gzip://x.mp4::{tmp_path}/bomb.gz": "more than 1000000 bytes, .* download_bytes",
    }.items():
        with pytest.raises(VideoDecodeError, match=reason):
            read_video(address, limits=DownloadLimits(size=1_000_000))


def test_only_a_string_that_begins_with_a_protocol_is_an_address(tmp_path, clip, monkeypatch):
    """Whatever it holds further on, and whatever kind of path it is."""
    fsspec.filesystem("memory").pipe("/sources/x.mp4", clip)
    monkeypatch.chdir(tmp_path)
    for name in ("memory:x.mp4", "x::memory:x.mp4", "a?b#c%20.mp4", "-x.mp4"):
        Path(name).write_bytes(clip)
        assert read_numbers(read_video(name, [59])[0]) == [59]
    for name in (Path("memory://sources/x.mp4"), "x::memory://sources/x.mp4", " memory://sources/x.mp4"):
        with pytest.raises(VideoDecodeError, match="no such file"):
            read_video(name)


def test_names_hold_no_passwords():
    for address, name in {
        "http://me:s3cret@host:8/a/@x.mp4?key=s3cret#s3cret": "http://host:8/a/@x.mp4",
        "https://me:s3c/ret@host/x.mp4": "https://...",
        "HTTP://me:s3@c@host/x.mp4": "HTTP://host/x.mp4",
        "http://[::1]:80/x.mp4": "http://[::1]:80/x.mp4",
        "ftp://me:s3cret@host/x.mp4": "ftp://host/x.mp4",
        "zip://a@b/x.mp4::https://me:s3cret@host/v.zip?key=s3cret": "zip://a@b/x.mp4::https://host/v.zip",
        "zip://x.mp4::/a?b/v.zip": "zip://x.mp4::/a?b/v.zip",
        "hf://datasets/me/set@main/x.mp4": "hf://datasets/me/set@main/x.mp4",
    }.items():
        assert source_name(address) == source_name({"path": address, "bytes": None}) == name
        assert source_name(Reader(b"", name=address)) == name
    assert source_name("/home/me:s3cret@host/x.mp4") == "/home/me:s3cret@host/x.mp4"
