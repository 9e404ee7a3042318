"""An opened video file: what libav may open, which stream is read, and with how many threads."""

import errno
from contextlib import contextmanager
from multiprocessing import parent_process

import av
from torch.utils.data import get_worker_info

from .video_http_fluxvit import DEFAULT_LIMITS, DownloadLimits
from .video_source_fluxvit import VideoDecodeError, opened_source, source_name

CONTAINERS = (
    "3g2,3gp,aac,aiff,apng,asf,av1,avi,dv,f4v,flac,flv,gif,gxf,h264,hevc,ivf,m4v,matroska,mjpeg,mov,mp3,mp4,mpeg,mpegts,"
    "mpegvideo,mxf,nut,obu,ogg,rm,swf,vc1,wav,webm,wtv,yuv4mpegpipe"
)
"""Demuxers libav may use. Playlists, image sequences, text and devices are not among them; audio files are, so that
they are reported as what they are."""

MOST_PIXELS = 2**27
"""Larger pictures are refused: a damaged header may announce any size."""

CONCEALING_DECODERS = ("h264", "hevc", "mpeg4")
"""Decoders that cover up damage and decode several frames at once."""

RACING_DECODERS = ("theora", "vp3", "vp4")
"""Decoders whose threads, after a jump, may make frames from the key frame of before (libavcodec 62)."""

MOST_HELD = 64
"""Frames that a decoder may hold back: as often is it asked for the next one when the end of a file is damaged."""

PICTURES = (
    *(
        (0, start)
        for start in (b"\x89PNG", b"\xff\xd8\xff", b"BM", b"II*\0", b"MM\0*", b"\xff\x0a", b"qoif", b"P5", b"P6")
    ),
    *((4, name) for name in (b"jP  ", b"JXL ")),
    (8, b"WEBP"),
)
"""Where still pictures (and animated WebP) are told from videos: offset and signature."""

PICTURE = "it is a picture; pictures are not supported, videos are"

PICTURE_BRANDS = ("avif", "avis", "heic", "heix", "hevc", "mif1", "msf1")
"""What files built like an mp4 call themselves when they hold pictures."""

NOT_OF_THE_FILE = (errno.EIO, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ESTALE)
"""Errors of the system. libav gives others to files that it does not understand."""

DEFAULT_PIXELS = 5_000_000
"""What a stream's mark as default counts in pixels of its picture, as in the ffmpeg program."""

COVERS = av.stream.Disposition.attached_pic | av.stream.Disposition.timed_thumbnails


class VideoFile:
    """A container that can be read again from its beginning, its video stream, and the name for error messages.

    Attributes:
        threads: of the decoder, 0 lets libav choose.
        errors: how many packets the decoder has refused since the file was opened, from the first key frame on.
    """

    def __init__(self, file, name: str, threads: int | None):
        self._file, self.name = file, name
        if threads is None:
            threads = 1 if get_worker_info() is not None or parent_process() is not None else 0
        self.threads = threads
        self._open()

    def _open(self):
        if hasattr(self._file, "seek"):
            self._file.seek(0)
        options = {"format_whitelist": CONTAINERS, "protocol_whitelist": "file"}
        self.container = av.open(self._file, "r", container_options=options, metadata_errors="ignore")
        try:
            self.stream = _video_stream(self.container, self.name)
        except VideoDecodeError:
            self.container.close()
            raise
        self.stream.thread_type = "AUTO"
        if self.stream.codec_context.name in RACING_DECODERS:
            self.threads = 1
        self.stream.codec_context.thread_count = self.threads
        options = {"max_pixels": str(MOST_PIXELS)}
        if self.threads != 1 and self.stream.codec_context.name in CONCEALING_DECODERS:
            # A thread marks a picture as damaged too late for others to see; as an error damage cannot be missed.
            options["err_detect"] = "explode"
        self.stream.codec_context.options = options
        self.fresh, self.errors, self._begun = True, 0, False

    def close(self):
        # Ends the work of the decoder's threads. They may be about to log, for which they need the GIL where somebody
        # has set PyAV's log level, as torchvision before 0.26 does; who frees a decoder waits for them and holds it.
        self.stream.codec_context.flush_buffers()
        self.container.close()

    def restart(self, threads: int | None = None):
        """Makes sure that the next packet read is the first, and that the decoder has `threads` from now on."""
        if not self.fresh or threads not in (None, self.threads):
            self.threads = self.threads if threads is None else threads
            self.close()
            self._open()

    def packets(self):
        """Packets of the video stream from the current position on; where the file cannot be read on it ends."""
        first, self.fresh = self.fresh and _begins_with_key_frame(self.container, self.stream), False
        while True:
            packets = self.container.demux(self.stream)
            try:
                if first and (packet := next(packets, None)) is not None:
                    packet.is_keyframe, first = packet.size > 0, False
                    yield packet
                yield from packets
            except IndexError:  # a packet of a stream that appeared while reading (PyAV 18.1)
                continue
            except av.error.FFmpegError:
                pass
            return

    def frames(self, before=None, packets=None):
        """Frames from the current position on; packets too damaged to decode are left out and counted in `errors`.

        `before` is called with each packet before it is decoded. When it returns True no further packet is read: what
        the decoder still holds follows, and the only way on is `seek` or `restart`. `packets`: instead of those from
        the current position on.
        """
        for packet in self.packets() if packets is None else packets:
            last = before is not None and before(packet)
            self._begun = self._begun or packet.is_keyframe
            yield from self._decoded(packet)
            if last and packet.size:
                yield from self._decoded(None)
                return

    def _decoded(self, packet) -> list:
        """The frames that are done after this packet; without one, all that the decoder still holds."""
        ending = packet is None or not packet.size
        for _ in range(MOST_HELD if ending else 1):
            try:
                return self.stream.codec_context.decode(packet)
            except av.error.EOFError:  # it has ended before
                return []
            except av.error.FFmpegError:
                self.errors += self._begun
        return []

    def seek(self, stamp: int) -> bool:
        """Jumps to a key frame before the time stamp; False when the container cannot."""
        self.fresh = False
        try:
            self.container.seek(stamp, stream=self.stream)
        except av.error.FFmpegError:
            return False
        return True


@contextmanager
def opened_video(source, threads: int | None, limits: DownloadLimits = DEFAULT_LIMITS):
    """Context manager around the `VideoFile` of a source; what libav raises inside is a VideoDecodeError.

    Args:
        source, threads, limits: as of `read_video`.

    Raises:
        VideoDecodeError: the source cannot be read, or is no video.
    """
    name = source_name(source)
    video = None
    try:
        with opened_source(source, limits) as file:
            try:
                video = VideoFile(file, name, threads)
            except (av.error.InvalidDataError, av.error.ArgumentError) as error:
                if _is_picture(file):
                    raise VideoDecodeError(name, PICTURE) from error
                raise
            yield video
    except av.error.FFmpegError as error:
        damaged = error.errno not in NOT_OF_THE_FILE
        reason = "it is damaged, truncated or not a video file" if damaged else error.strerror
        raise VideoDecodeError(name, f"{reason} ({type(error).__name__})") from error
    finally:
        if video is not None:
            video.close()


def _is_picture(file) -> bool:
    if isinstance(file, str):
        with open(file.removeprefix("file:"), "rb") as opened:
            start = opened.read(16)
    else:
        file.seek(0)
        start = file.read(16)
    return any(start[place:].startswith(signature) for place, signature in PICTURES)


def _video_stream(container, name: str):
    """The stream that ffmpeg would take: the largest picture, and the mark as default counts for much; no cover."""
    if container.metadata.get("major_brand", "").strip() in PICTURE_BRANDS:
        raise VideoDecodeError(name, PICTURE)
    streams = [s for s in container.streams.video if not s.disposition & COVERS]
    if not streams:
        kinds = sorted({s.type for s in container.streams})
        raise VideoDecodeError(name, f"it has no video stream (streams: {', '.join(kinds) or 'none'})")
    readable = [s for s in streams if s.codec_context is not None]
    if not readable:
        raise VideoDecodeError(name, "there is no decoder for its video codec")
    return max(readable, key=lambda s: s.codec_context.width * s.codec_context.height + DEFAULT_PIXELS * _is_default(s))


def _begins_with_key_frame(container, stream) -> bool:
    """Whether the container's table says so; libav believes the packet, which may be damaged."""
    if not {"mov", "avi"}.intersection(container.format.name.split(",")):
        return False
    first = next(iter(stream.index_entries), None)
    return first is not None and first.is_keyframe


def _is_default(stream) -> bool:
    return bool(stream.disposition & av.stream.Disposition.default)
