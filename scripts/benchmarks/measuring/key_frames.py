"""What `decoding="keyframes"` saves and what it costs: seconds beside other readers, accuracy beside other modes."""

from pathlib import Path

import torch
from transformers import AutoModelForVideoClassification

from flux_hf import FluxVideoProcessor
from flux_hf.checkpoints import checkpoint_path
from flux_hf.data import load_video_dataset
from flux_hf.evaluation import evaluate
from flux_hf.processing.frame_sampling_fluxvit import DECODING_MODES, sample_segments, segments_with_key_frames
from flux_hf.processing.video_decoding_fluxvit import probe_video, read_video
from flux_hf.scripts.benchmarks.measuring.readers import available_readers
from flux_hf.scripts.benchmarks.measuring.timing import alternating

FIGURES = ("top1", "top1_interval", "grids_used")


def key_frames(path: str, num_frames: int):
    """The frames that `decoding="keyframes"` takes on a grid of at most `num_frames`."""

    def choose(metadata):
        return sample_segments(metadata, segments_with_key_frames(metadata, num_frames) or num_frames, "keyframes")

    return read_video(path, choose)


def seconds_of_film(path: Path, num_frames: int, repeats: int, most_seconds: float) -> dict:
    """`key_frames` of the film, `taken` (numbers of the frames), `readers` (see `alternating`), and `gain`: how many
    times the seconds of our own readers go into those of the best other reader that gives `num_frames` frames."""
    source = str(path)
    readers, missing = available_readers()
    runs = {name: (lambda reader=reader: reader(source, num_frames)) for name, reader in readers.items()}
    runs["keyframes"] = lambda: key_frames(source, num_frames)
    timed = alternating(runs, repeats, most_seconds)
    others = [row["seconds"] for name, row in timed.items() if name not in DECODING_MODES and "seconds" in row]
    return {
        "key_frames": len(probe_video(source).key_frames),
        "taken": key_frames(source, num_frames)[1].frames_indices,
        "missing": missing,
        "readers": timed,
        "gain": {mode: min(others) / timed[mode]["seconds"] for mode in DECODING_MODES} if others else None,
    }


def accuracy_of_films(folder: Path, checkpoint: str, modes=DECODING_MODES) -> dict:
    """`count` of the films, and `modes`: mode -> budget -> `top1`, `top1_interval` and `grids_used`, see `evaluate`."""
    torch.set_num_threads(1)
    model = AutoModelForVideoClassification.from_pretrained(checkpoint_path(checkpoint)).eval()
    dataset = load_video_dataset(str(folder), "test")
    found = {"count": len(dataset), "modes": {}}
    for mode in modes:
        processor = FluxVideoProcessor.from_pretrained(checkpoint_path(checkpoint), decoding=mode)
        result = evaluate(dataset, model, processor, model.config.head_token_budgets, of_classes=False)
        found["modes"][mode] = {
            budget: {name: figures[name] for name in FIGURES} for budget, figures in result["budgets"].items()
        }
    return found
