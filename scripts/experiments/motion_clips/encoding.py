"""Writing frames to a video file with PyAV, one thread, always the same bytes for the same frames."""

import av

from flux_hf.files import whole_file

_CONTAINERS = {".mp4": "mp4", ".mkv": "matroska", ".avi": "avi"}
_ENCODERS = {"h264": "libx264", "mpeg4": "mpeg4", "vp8": "libvpx", "vp9": "libvpx-vp9", "mjpeg": "mjpeg"}


def write_video(path, frames, *, suffix, codec, quality, frame_rate, width, height):
    """Encode uint8 frames (height, width, 3). The file appears when complete.

    `quality` runs from 0 (poor) to 1; H.264 and MPEG-4 also take what is below, down to -0.5.
    """
    options = {"fflags": "+bitexact"}
    with (
        whole_file(path) as partial,
        av.open(str(partial), "w", format=_CONTAINERS[suffix], options=options) as container,
    ):
        stream = container.add_stream(_ENCODERS[codec], rate=frame_rate, options=_encoder_options(codec, quality))
        stream.width, stream.height = width, height
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.thread_count = 1
        stream.codec_context.flags |= av.codec.context.Flags.bitexact
        if codec in ("vp8", "vp9"):
            stream.bit_rate = int(width * height * float(frame_rate) * (0.15 + 0.35 * quality))
        for array in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(array, format="rgb24")))
        container.mux(stream.encode(None))


def _encoder_options(codec, quality):
    if codec == "h264":
        return {"preset": "ultrafast" if quality < 0.7 else "superfast", "crf": str(round(32 - 14 * quality))}
    if codec in ("vp8", "vp9"):
        # A positive speed lets VP8 choose its search by the clock; a negative one is the same speed, held.
        return {"deadline": "realtime", "cpu-used": "-8"}
    step = round(8 - 5 * quality)
    return {"qmin": str(step), "qmax": str(step)}
