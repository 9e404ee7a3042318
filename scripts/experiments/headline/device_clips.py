"""Training clips that lie decoded on the device that trains, and are cut out there, a batch at a time.

For a small model on a GPU, which waits for its calls: a batch takes as many here as one clip in `ClipAugmentation`.
"""

import torch
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.v2.functional import normalize, resize

from flux_hf.data import CachedClips
from flux_hf.processing.grid_fluxvit import Grid
from flux_hf.training import FluxTrainer, FluxTrainingArguments
from flux_hf.training.label_symmetries import LabelSymmetries, load_label_symmetries
from flux_hf.training.sampling import ClipRequest, EpochOfSampler, GridBatchSampler

PLAIN = {"flip": False, "rand_augment_ops": 0, "random_colors": False, "random_degradation": 0.0, "random_erasing": 0.0}
PLAIN |= {"max_zoom_out": 1.0, "max_crop_aspect": 1.0, "multi_scale_crop": None, "min_clip_span": 1.0}
PLAIN |= {"mixup_alpha": 0.0, "cutmix_alpha": 0.0, "views_per_video": 1}


class Requests(Dataset):
    """Gives back what it is asked for."""

    def __getitem__(self, request: ClipRequest) -> ClipRequest:
        return request


class DeviceViews:
    """Makes of the requests of a batch its clips and labels, on the device: a random frame of each segment, a square of
    the same size in all clips and at a place of its own in each, half of the clips backwards where labels have such a
    symmetry, and other light in each clip.

    Args:
        args: as of [`FluxTrainer`]; of its augmentation, `min_crop_area`.
        mean, std: of colours, for normalising.
        light: the contrast of a clip is multiplied by 1 - `light` to 1 + `light`, and to each of its colours -`light`
            to `light` is added, both in normalised values and the same in all frames; 0: light stays as it is.

    Raises:
        ValueError: `args` asks for an augmentation that is not made here, or for another symmetry of the labels.
    """

    def __init__(
        self, clips: CachedClips, args: FluxTrainingArguments, mean: list[float], std: list[float], light: float = 0.0
    ):
        if other := [name for name, value in PLAIN.items() if getattr(args, name) != value]:
            raise ValueError(f"clips on the device are only cropped and played backwards, got {', '.join(other)}")
        symmetries = load_label_symmetries(args.label_symmetries, clips.label_names) if args.label_symmetries else None
        self.backwards = backwards_labels(symmetries, args.device)
        self.frames = torch.from_numpy(clips.clips.copy()).to(args.device)
        self.labels = torch.from_numpy(clips.labels).to(args.device)
        self.seed, self.min_crop_area, self.colors, self.light = args.seed, args.min_crop_area, (mean, std), light

    @torch.no_grad()
    def __call__(self, requests: list[ClipRequest]) -> dict[str, torch.Tensor]:
        """`pixel_values_videos` (batch, frames, 3, size, size) and `labels` (batch,)."""
        grid: Grid = requests[0].grid
        device, count = self.frames.device, len(requests)
        kept, whole = self.frames.shape[1:3]
        first = requests[0].epoch * len(self.labels) + requests[0].index
        dice = torch.Generator(device).manual_seed(self.seed * 2**32 + first)
        area = torch.empty(()).uniform_(self.min_crop_area, 1, generator=torch.Generator().manual_seed(first)).item()
        side = round(area**0.5 * whole)
        clip = torch.tensor([request.index for request in requests], device=device)
        starts = torch.arange(grid.frames + 1, device=device) * kept // grid.frames
        drawn = torch.rand(count, grid.frames, device=device, generator=dice)
        time = (starts[:-1] + drawn * starts.diff()).long()
        corner = torch.randint(whole - side + 1, (2, count), device=device, generator=dice)
        row, column = corner[..., None] + torch.arange(side, device=device)
        labels = self.labels[clip]
        if self.backwards is not None:
            turned = torch.rand(count, device=device, generator=dice) < 0.5
            time = torch.where(turned[:, None], time.flip(1), time)
            labels = torch.where(turned, self.backwards[labels], labels)
        places = clip[:, None, None, None], time[:, :, None, None], row[:, None, :, None], column[:, None, None, :]
        pixels = self.frames[places].movedim(-1, 2).float().div_(255)
        pixels = normalize(resize(pixels, [grid.size, grid.size], antialias=True), *self.colors)
        if self.light:
            contrast, brightness = torch.empty(2, count, 1, 3, 1, 1, device=device).uniform_(-1, 1, generator=dice)
            pixels = pixels * (1 + self.light * contrast[:, :, :1]) + self.light * brightness
        return {"pixel_values_videos": pixels, "labels": labels}


def backwards_labels(symmetries: LabelSymmetries | None, device: torch.device) -> torch.Tensor | None:
    """int64 (labels,): what each label becomes when a clip is played backwards; None where clips are not."""
    if symmetries is None:
        return None
    images = symmetries.images.get("backwards")
    if list(symmetries.images) != ["backwards"] or None in images:
        raise ValueError("clips on the device are only played backwards, which must leave every clip a label")
    return torch.tensor(images, device=device)


class DeviceClipsTrainer(FluxTrainer):
    """[`FluxTrainer`] on cached clips that lie on the device. One process. `light` as of [`DeviceViews`]."""

    def __init__(self, light: float = 0.0, **kwargs):
        super().__init__(**kwargs)
        self.light = light

    def get_train_dataloader(self) -> DataLoader:
        args, processor = self.args, self.processing_class
        views = DeviceViews(self.train_dataset, args, processor.image_mean, processor.image_std, self.light)
        sampler = GridBatchSampler(len(self.train_dataset), args.train_batch_size, self.grids(), seed=args.seed)
        self.add_callback(EpochOfSampler(sampler))
        return self.accelerator.prepare(DataLoader(Requests(), batch_sampler=sampler, collate_fn=views))
