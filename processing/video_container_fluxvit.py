"""An opened video file: what libav may open, which stream is read, and with how many threads."""

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


class VideoFile:
    """A container that can be read again from its beginning, its video stream, and the name for error messages."""

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
        self.container = av.open(self._file, mode="r", container_options=options, metadata_errors="ignore")
        try:
            self.stream = _video_stream(self.container, self.name)
        except VideoDecodeError:
            self.container.close()
            raise
        self.stream.thread_type = "AUTO"
        self.stream.codec_context.thread_count = self.threads
        self.fresh = True

    def close(self):
        # Ends the work of the decoder's threads. They may be about to log, for which they need the GIL where somebody
        # has set PyAV's log level, as torchvision before 0.26 does; who frees a decoder waits for them and holds it.
        self.stream.codec_context.flush_buffers()
        self.container.close()

    def restart(self):
        """Makes sure that the next packet read is the first."""
        if not self.fresh:
            self.close()
            self._open()

    def packets(self):
        self.fresh = False
        yield from self.container.demux(self.stream)

    def frames(self, before=None):
        """Frames from the current position on; packets too damaged to decode are left out.

        `before` is called with each packet before it is decoded. When it returns True no further packet is read: what
        the decoder still holds follows, and the only way on is `seek` or `restart`.
        """
        for packet in self.packets():
            last = before is not None and before(packet)
            try:
                yield from packet.decode()
            except av.error.FFmpegError:
                continue
            if last:
                yield from self.stream.codec_context.decode(None)
                return

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
    name = source_name(source)
    video = None
    try:
        with opened_source(source, limits) as file:
            video = VideoFile(file, name, threads)
            yield video
    except av.error.FFmpegError as error:
        damaged = isinstance(error, (av.error.InvalidDataError, av.error.ArgumentError, av.error.EOFError))
        reason = "it is damaged, truncated or not a video file" if damaged else error.strerror
        raise VideoDecodeError(name, f"{reason} ({type(error).__name__})") from error
    finally:
        if video is not None:
            video.close()


def _video_stream(container, name: str):
    pictures = av.stream.Disposition.attached_pic
    streams = [s for s in container.streams.video if not s.disposition & pictures]
    if not streams:
        kinds = sorted({s.type for s in container.streams})
        raise VideoDecodeError(name, f"it has no video stream (streams: {', '.join(kinds) or 'none'})")
    if streams[0].codec_context is None:
        raise VideoDecodeError(name, "there is no decoder for its video codec")
    return streams[0]
