"""Training clips of the headline experiment that lie on the device: what is cut out of them."""

import numpy as np
import pytest
import torch
from torchvision.transforms.v2.functional import normalize, resize

from flux_hf.data import CachedClips
from flux_hf.processing.grid_fluxvit import Grid
from flux_hf.scripts.experiments.headline.device_clips import DeviceClipsTrainer, DeviceViews
from flux_hf.training import FluxTrainingArguments
from flux_hf.training.sampling import ClipRequest
from tests import tiny_training

MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.3, 0.4]
NAMES = ["close", "open"]
ONLY_CROPS = {"flip": False, "rand_augment_ops": 0, "max_crop_aspect": 1.0}


@pytest.fixture
def clips():
    frames = np.random.default_rng(0).integers(0, 256, (6, 8, 40, 40, 3), dtype=np.uint8)
    return CachedClips(frames, np.array([0, 1] * 3), NAMES, [str(number) for number in range(6)])


@pytest.fixture
def views(clips, tmp_path):
    def build(light=0.0, **options):
        args = FluxTrainingArguments(output_dir=str(tmp_path), use_cpu=True, **ONLY_CROPS | options)
        return DeviceViews(clips, args, MEAN, STD, light)

    return build


@pytest.fixture
def symmetries(tmp_path):
    path = tmp_path / "symmetries.yaml"
    path.write_text("backwards: {close: open, open: close}\n")
    return str(path)


def requests(grid: Grid, epoch: int = 0) -> list[ClipRequest]:
    return [ClipRequest(index, epoch, grid) for index in (4, 1, 3, 0, 2, 5)]


def whole(clips: CachedClips, size: int) -> torch.Tensor:
    pixels = torch.from_numpy(clips.clips).movedim(-1, 2).float() / 255
    return normalize(resize(pixels, [size, size], antialias=True), MEAN, STD)


def test_all_frames_and_pixels_of_a_clip_are_the_clip(clips, views):
    batch = views(min_crop_area=1.0)(requests(Grid(8, 24)))
    order = [4, 1, 3, 0, 2, 5]
    torch.testing.assert_close(batch["pixel_values_videos"], whole(clips, 24)[order])
    assert batch["labels"].tolist() == [clips.label(index) for index in order]


def test_backwards_changes_the_label_with_the_clip(clips, views, symmetries):
    make, expected = views(min_crop_area=1.0, label_symmetries=symmetries), whole(clips, 24)
    turned = 0
    for epoch in range(6):
        asked = requests(Grid(8, 24), epoch)
        batch = make(asked)
        for request, pixels, label in zip(asked, batch["pixel_values_videos"], batch["labels"], strict=True):
            backwards = label.item() != clips.label(request.index)
            turned += backwards
            clip = expected[request.index]
            torch.testing.assert_close(pixels, clip.flip(0) if backwards else clip)
    assert 0.25 < turned / 36 < 0.75


def test_crops_and_frames_differ_and_come_again(views):
    make, asked = views(min_crop_area=0.3), requests(Grid(4, 16))
    first, other = make(asked)["pixel_values_videos"], make(requests(Grid(4, 16), 1))["pixel_values_videos"]
    assert first.shape == (6, 4, 3, 16, 16) and not torch.allclose(first, other)
    assert torch.equal(first, make(asked)["pixel_values_videos"])


def test_frames_are_one_of_each_segment(clips, views):
    clips.clips[:] = np.arange(8, dtype=np.uint8)[None, :, None, None, None] * 10
    pixels = views()(requests(Grid(4, 16)))["pixel_values_videos"]
    numbers = (pixels[:, :, 0, 0, 0] * STD[0] + MEAN[0]) * 25.5
    assert torch.equal((numbers.round() / 2).floor(), torch.arange(4.0).expand(6, 4))
    assert len(numbers.round().unique()) > 4


def test_each_clip_has_light_of_its_own_in_all_frames(clips, views):
    """A colour of a clip is `contrast` times what it was and `brightness`: two numbers that two pixels give."""
    plain, lit = (views(light, min_crop_area=1.0)(requests(Grid(8, 40)))["pixel_values_videos"] for light in (0.0, 0.3))
    plain, lit = (video.movedim(2, 1).flatten(2) for video in (plain, lit))
    contrast = (lit[..., 0] - lit[..., 1]) / (plain[..., 0] - plain[..., 1])
    brightness = lit[..., 0] - contrast * plain[..., 0]
    torch.testing.assert_close(lit, contrast[..., None] * plain + brightness[..., None], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(contrast, contrast[:, :1].expand(6, 3), atol=1e-3, rtol=0)
    assert contrast.min() > 0.69 and contrast.max() < 1.31 and brightness.abs().max() < 0.31
    assert contrast[:, 0].std() > 0.05 and brightness.std() > 0.05 and brightness.std(dim=1).min() > 0.001


@pytest.mark.parametrize("option", [{"flip": True}, {"rand_augment_ops": 2}, {"random_colors": True}])
def test_other_augmentations_are_refused(views, option):
    with pytest.raises(ValueError, match=f"only cropped and played backwards, got {next(iter(option))}"):
        views(**option)


def test_other_symmetries_are_refused(views, tmp_path):
    path = tmp_path / "mirror.yaml"
    path.write_text("mirror: {close: open, open: close}\n")
    with pytest.raises(ValueError, match="only played backwards"):
        views(label_symmetries=str(path))


def test_training_sees_each_clip_once_an_epoch_on_the_grids_of_flux_training(tmp_path):
    clips = tiny_training.clips(count=12)
    clips.clips[:] = np.arange(12, dtype=np.uint8)[:, None, None, None, None] * 20
    args = tiny_training.arguments(tmp_path, max_steps=18, **ONLY_CROPS)
    seen, grids = [], set()

    class Watched(DeviceClipsTrainer):
        def compute_loss(self, model, inputs, **kwargs):
            pixels = inputs["pixel_values_videos"]
            grids.add((pixels.shape[1], pixels.shape[-1]))
            values = (pixels * torch.tensor(processor.image_std)[:, None, None]).amax((1, 3, 4))
            seen.extend(((values + torch.tensor(processor.image_mean)) * 255 / 20).round()[:, 0].int().tolist())
            return super().compute_loss(model, inputs, **kwargs)

    processor = tiny_training.processor()
    trainer = Watched(model=tiny_training.model(), args=args, train_dataset=clips, processing_class=processor)
    trainer.train()
    assert [sorted(seen[start : start + 12]) for start in (0, 12, 24)] == [list(range(12))] * 3
    assert seen[:12] != seen[12:24] and len(grids) > 1 and grids <= tiny_training.GRIDS
