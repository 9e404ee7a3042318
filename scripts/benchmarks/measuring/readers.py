"""Readers of video frames to compare ours with. Each takes (path, num_frames) and returns so many RGB frames."""

from collections.abc import Callable
from importlib import import_module

import av
import numpy as np

from flux_hf.processing.frame_sampling_fluxvit import sample_segments, segment_middles
from flux_hf.processing.video_decoding_fluxvit import read_video
from flux_hf.processing.video_runs_fluxvit import SKIPPING_DECODERS

Reader = Callable[[str, int], np.ndarray]
MODES = ("exact", "fast")


def ours(mode: str) -> Reader:
    """Our reader with decoding "fast" or "exact"."""
    return lambda path, frames: read_video(path, lambda metadata: sample_segments(metadata, frames, mode))[0]


def libav_alone(path: str, num_frames: int, mode: str) -> Callable[[], int]:
    """The least that a reader of the frames of `mode` has to do: a run that opens the file, jumps to the key frames
    before them and decodes what they are made from. It knows where they are and converts none. It returns how many
    frames libav gave.

    For files whose first video stream tells the time of every frame.
    """
    numbers = read_video(path, lambda metadata: sample_segments(metadata, num_frames, mode))[1]["frames_indices"]
    with av.open(path) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    stamps, keys = sorted(packet.pts for packet in packets), [packet.pts for packet in packets if packet.is_keyframe]
    wanted = {stamps[number] for number in numbers}
    starts = sorted({max(key for key in keys if key <= stamp) for stamp in wanted})
    of_start = {start: {s for s in wanted if max(key for key in keys if key <= s) == start} for start in starts}

    def run() -> int:
        given = 0
        with av.open(path) as container:
            stream = container.streams.video[0]
            stream.thread_type, context = "AUTO", stream.codec_context
            for start, awaited in of_start.items():
                container.seek(start, stream=stream)
                missing = set(awaited)
                for packet in container.demux(stream):
                    missing.discard(packet.pts)
                    if context.name in SKIPPING_DECODERS:
                        context.skip_frame = "DEFAULT" if packet.pts in awaited else "NONREF"
                    given += len(packet.decode())
                    if not missing:
                        given += len(context.decode(None))
                        break
        return given

    return run


def transformers_pyav(path: str, frames: int) -> np.ndarray:
    """The reader of Transformers on PyAV, middles of segments."""
    from transformers.video_utils import read_video_pyav

    return read_video_pyav(path, lambda metadata, **_: segment_middles(metadata.total_num_frames, frames))[0]


def torchcodec(path: str, frames: int) -> np.ndarray:
    """TorchCodec, its seek mode that trusts the header, middles of segments."""
    decoder = import_module("torchcodec.decoders").VideoDecoder(path, seek_mode="approximate", num_ffmpeg_threads=0)
    return decoder.get_frames_at(segment_middles(len(decoder), frames).tolist()).data.numpy()


def decord(path: str, frames: int) -> np.ndarray:
    """decord, middles of segments."""
    reader = import_module("decord").VideoReader(path)
    return reader.get_batch(segment_middles(len(reader), frames).tolist()).asnumpy()


def opencv(path: str, frames: int) -> np.ndarray:
    """OpenCV, a jump to each of the middles of segments."""
    cv2 = import_module("cv2")
    capture = cv2.VideoCapture(path)
    taken = []
    for number in segment_middles(int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), frames).tolist():
        capture.set(cv2.CAP_PROP_POS_FRAMES, number)
        found, frame = capture.read()
        if not found:
            raise ValueError(f"frame {number} cannot be read")
        taken.append(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
    capture.release()
    return np.stack(taken)


PEERS = {
    "transformers pyav": (transformers_pyav, "av"),
    "torchcodec": (torchcodec, "torchcodec.decoders"),
    "decord": (decord, "decord"),
    "OpenCV": (opencv, "cv2"),
}


def available_readers() -> tuple[dict[str, Reader], dict[str, str]]:
    """Our modes and the peers that can be imported, and for those that cannot the reason."""
    readers, missing = {"exact": ours("exact"), "fast": ours("fast")}, {}
    for name, (reader, module) in PEERS.items():
        try:
            import_module(module)
        except Exception as error:
            missing[name] = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"
        else:
            readers[name] = reader
    return readers, missing
