"""Three ways of choosing frames, and what each costs and is worth: the middles, `fast`, and what `fast` was before."""

import statistics
import time
from collections.abc import Sequence

import numpy as np
import torch
from transformers import AutoModelForVideoClassification

from flux_hf import FluxVideoProcessor
from flux_hf.checkpoints import checkpoint_path
from flux_hf.data import load_video_dataset
from flux_hf.evaluation.accuracy import model_labels
from flux_hf.processing.frame_sampling_fluxvit import SeekableMetadata, sample_segments, segment_bounds, segment_middles
from flux_hf.processing.video_decoding_fluxvit import probe_video, read_video


def key_or_first_frames(metadata: SeekableMetadata, num_frames: int) -> np.ndarray:
    """What "fast" was before: the key frame of each segment that is nearest to the middle, else its first frame."""
    if metadata.total_num_frames <= num_frames:
        return segment_middles(metadata.total_num_frames, num_frames)
    keys = np.asarray(metadata.key_frames)
    taken = []
    for first, last in zip(*segment_bounds(metadata.total_num_frames, num_frames), strict=True):
        inside = keys[(first <= keys) & (keys <= last)]
        taken.append(inside[np.argmin(abs(inside - (first + last) // 2))] if inside.size else first)
    return np.array(taken)


CHOICES = {
    "exact": lambda metadata, num_frames: sample_segments(metadata, num_frames, "exact"),
    "before": key_or_first_frames,
    "fast": lambda metadata, num_frames: sample_segments(metadata, num_frames, "fast"),
}


def frames_decoded(numbers: Sequence[int], key_frames: Sequence[int]) -> int:
    """How many frames lie between the key frame before each of the numbers and that number, each counted once."""
    decoded, keys = 0, np.append(0, key_frames)
    decoded_to = -1
    for number in sorted(set(map(int, numbers))):
        decoded += number - max(int(keys[keys <= number].max()), decoded_to + 1) + 1
        decoded_to = number
    return decoded


def cost_of_file(path: str, num_frames: int, repeats: int) -> dict[str, dict]:
    """choice -> `decoded` frames, `shift` (mean distance from the middles, in segments) and `cpu_seconds`, the least of
    `repeats` reads on one thread, the choices taking turns."""
    told = probe_video(path)
    costs = {}
    for name, choose in CHOICES.items():
        numbers = choose(told, num_frames)
        middles = segment_middles(told.total_num_frames, num_frames)
        shift = float(abs(numbers - middles).mean() * num_frames / told.total_num_frames)
        costs[name] = {"decoded": frames_decoded(numbers, told.key_frames), "shift": shift, "cpu_seconds": []}
    for _ in range(repeats):
        for name, choose in CHOICES.items():
            began = time.process_time()
            read_video(path, lambda metadata, choose=choose: choose(metadata, num_frames), threads=1)
            costs[name]["cpu_seconds"].append(time.process_time() - began)
    return {name: {**cost, "cpu_seconds": min(cost["cpu_seconds"])} for name, cost in costs.items()}


@torch.inference_mode()
def on_dataset(folder: str, split: str, checkpoint: str) -> dict:
    """Of all clips of a split: `clips`, `one_key_frame` (how many of them have no other), and choice -> `decoded`
    frames of a clip (the mean) and `middles` (how many clips it takes the middles of), both on the grid of the last
    budget, and `top1`, budget -> share; None for a checkpoint that has other labels."""
    processor = FluxVideoProcessor.from_pretrained(checkpoint_path(checkpoint))
    model = AutoModelForVideoClassification.from_pretrained(checkpoint_path(checkpoint)).eval()
    dataset, budgets = load_video_dataset(folder, split), model.config.head_token_budgets
    known = set(dataset.features["label"].names) <= set(model.config.label2id)
    label_ids = model_labels(dataset, model) if known else None
    rows, keys = {name: [] for name in CHOICES}, []
    for clip in dataset:
        told = probe_video(clip["video"])
        frames, answers = read_video(clip["video"], threads=1)[0] if known else None, {}
        keys.append(len(told.key_frames))
        for name, choose in CHOICES.items():
            right = []
            for budget in budgets:
                numbers = tuple(choose(told, processor.choose_grid(budget).frames).tolist())
                if known and (numbers, budget) not in answers:
                    options = {"do_sample_frames": False, "token_budget": budget, "return_tensors": "pt"}
                    logits = model(**processor(frames[list(numbers)], **options)).logits
                    answers[numbers, budget] = int(logits.argmax()) == label_ids[clip["label"]]
                right.append(answers.get((numbers, budget)))
            middles = tuple(segment_middles(told.total_num_frames, len(numbers)).tolist())
            rows[name].append((frames_decoded(numbers, told.key_frames), numbers == middles, right))
    return {
        "clips": len(dataset),
        "one_key_frame": sum(count == 1 for count in keys),
        "choices": {
            name: {
                "decoded": statistics.mean(decoded for decoded, _, _ in found),
                "middles": sum(same for _, same, _ in found),
                "top1": {b: statistics.mean(right[i] for _, _, right in found) for i, b in enumerate(budgets)}
                if known
                else None,
            }
            for name, found in rows.items()
        },
    }
