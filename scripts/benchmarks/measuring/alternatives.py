"""Two ways of decoding that we did not take, beside what we do: runs for [`alternating`]."""

from collections.abc import Callable

import av
import numpy as np

from flux_hf.processing.frame_sampling_fluxvit import sample_segments
from flux_hf.processing.video_decoding_fluxvit import read_video
from flux_hf.processing.video_processing_fluxvit import FluxVideoProcessor
from flux_hf.scripts.benchmarks.measuring.readers import ours


def with_and_without_pass(path: str, num_frames: int) -> dict[str, Callable]:
    """Reading frames in mode `fast`, and what going over the packets of the file takes of it."""
    return {"fast": lambda: ours("fast")(path, num_frames), "pass": lambda: count_packets(path)}


def count_packets(path: str) -> int:
    """Packets with content in the first video stream; none is decoded."""
    with av.open(path) as container:
        return sum(1 for packet in container.demux(video=0) if packet.size)


def full_and_scaled(path: str, num_frames: int, size: int) -> dict[str, Callable]:
    """From a file to pixels (1, num_frames, 3, size, size) in 0..1: frames converted to RGB at the size they have
    ("full"), or scaled by the decoder to a short side of `size` ("scaled")."""
    processor = FluxVideoProcessor(size={"shortest_edge": size}, do_normalize=False, do_sample_frames=False)

    def run(short_side: int | None):
        def frames(metadata):
            return sample_segments(metadata, num_frames, "fast")

        decoded = read_video(path, frames, short_side=short_side)[0]
        return processor(videos=decoded, return_tensors="pt").pixel_values_videos

    return {"full": lambda: run(None), "scaled": lambda: run(size)}


def pixel_difference(runs: dict[str, Callable]) -> float:
    """Mean absolute difference of what `full_and_scaled` give, of 255."""
    full, scaled = (runs[name]().numpy() for name in ("full", "scaled"))
    return 255 * float(np.abs(full - scaled).mean())
