"""Augmentations that have to survive the token selector, and RandAugment beside what Pillow makes of a picture."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torchvision.transforms import v2
from torchvision.tv_tensors import Video

from flux_hf.scripts.experiments.augmentations.kept_share import augmentations, kept_shares, moving_clip, plain
from flux_hf.training.augmentation import ERASED_AREA, ERASED_ASPECT, ClipAugmentation, NoiseErasing, random_state
from flux_hf.training.rand_augment import OPERATIONS, rand_augment
from tests import tiny_training

GREY, BICUBIC = (128, 128, 128), Image.Resampling.BICUBIC
SMALL = {"size": 112, "budget": 256, "draws": 8}


@pytest.fixture(scope="module")
def clip():
    return moving_clip()


@pytest.fixture
def picture():
    values = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(values).resize((40, 30), BICUBIC)


def loses(of_kept: float, of_all: float) -> bool:
    """Whether the selector drops what an augmentation changed."""
    return of_kept < of_all / 3


@pytest.mark.long
@pytest.mark.parametrize("name", augmentations())
def test_the_selector_keeps_what_an_augmentation_changes(clip, name):
    of_kept, of_all = kept_shares(augmentations()[name], clip, **SMALL)
    assert of_all > 0.1
    assert not loses(of_kept, of_all), f"{of_kept:.3f} of the kept tokens, {of_all:.3f} of all"


@pytest.mark.parametrize("name", ["random_erasing", "multi_scale_crop", "random_colors"])
def test_so_does_the_selector_of_pre_training(clip, name):
    assert not loses(*kept_shares(augmentations()[name], clip, **SMALL, by_pixels=True))


def test_half_of_the_clips_are_made_smaller_on_grey_the_same_in_every_frame(tmp_path):
    args = tiny_training.arguments(
        tmp_path, max_zoom_out=2.0, min_crop_area=1.0, max_crop_aspect=1.0, rand_augment_ops=0
    )
    augment = ClipAugmentation(args, [0.0] * 3, [1.0] * 3, flip=False)
    shares = []
    for number in range(200):
        with random_state(number):
            view = augment(np.full((2, 56, 56, 3), 255, np.uint8), 56)
        assert torch.equal(view[0], view[1])
        assert view.min() >= 128 / 255 - 1e-6
        shares.append(float((view[0, 0] > 0.99).float().mean()))
    smaller = [share for share in shares if share < 1]
    assert len(smaller) / len(shares) == pytest.approx(0.5, abs=0.1)
    assert min(smaller) == pytest.approx(1 / 4, abs=0.03) and max(smaller) > 0.9


def test_zooming_out_is_by_one_or_more(tmp_path):
    with pytest.raises(ValueError, match="max_zoom_out must be at least 1.0"):
        tiny_training.arguments(tmp_path, max_zoom_out=0.5)


def test_one_patch_for_all_frames_would_be_dropped(clip):
    """torchvision's own erasing: the test above can fail."""
    erase = v2.RandomErasing(1.0, ERASED_AREA, ERASED_ASPECT, value="random")

    def views(frames, size):
        for number in range(8):
            with random_state(number):
                yield erase(Video(plain(frames, size))).as_subclass(torch.Tensor)

    assert loses(*kept_shares(views, clip, **SMALL))


def test_erasing_draws_new_noise_in_one_box_of_all_frames():
    before = torch.full((6, 3, 40, 50), 9.0)
    with random_state(0):
        after = NoiseErasing(1.0, ERASED_AREA, ERASED_ASPECT, value="random")(Video(before)).as_subclass(torch.Tensor)
    erased = (after != 9).all(1)
    assert 0.02 * 0.8 < erased[0].float().mean() < 0.4
    rows, columns = erased[0].any(1).nonzero().flatten(), erased[0].any(0).nonzero().flatten()
    box = torch.zeros_like(erased[0])
    box[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
    assert all(torch.equal(frame, box) for frame in erased)
    noise = after[:, :, box]
    assert abs(noise.mean()) < 0.2 and abs(noise.std() - 1) < 0.1
    correlation = torch.corrcoef(noise.flatten(1))
    assert (correlation - torch.eye(6)).abs().max() < 0.3


@pytest.mark.parametrize(
    ("name", "level", "sign", "expected"),
    [
        ("AutoContrast", 0.5, 1, ImageOps.autocontrast),
        ("Equalize", 0.5, 1, ImageOps.equalize),
        ("Invert", 0.5, 1, ImageOps.invert),
        ("Posterize", 0.7, 1, lambda image: ImageOps.posterize(image, 2)),
        ("Posterize", 0.9, 1, lambda image: ImageOps.posterize(image, 1)),
        ("Posterize", 1.0, 1, lambda image: ImageOps.posterize(image, 1)),
        ("Solarize", 0.7, 1, lambda image: ImageOps.solarize(image, 77)),
        ("Solarize", 0.0, 1, lambda image: image),
        ("SolarizeAdd", 0.7, 1, lambda image: image.point(lambda value: value + 77 if value < 128 else value)),
        ("Color", 0.7, 1, lambda image: ImageEnhance.Color(image).enhance(1.63)),
        ("Contrast", 0.7, -1, lambda image: ImageEnhance.Contrast(image).enhance(0.37)),
        ("Brightness", 0.9, 1, lambda image: ImageEnhance.Brightness(image).enhance(1.81)),
        ("Sharpness", 0.9, -1, lambda image: ImageEnhance.Sharpness(image).enhance(0.19)),
        ("Rotate", 0.7, 1, lambda image: image.rotate(21, BICUBIC, fillcolor=GREY)),
        ("ShearX", 0.7, 1, lambda image: affine(image, 1, 0.21, 0, 0, 1, 0)),
        ("ShearY", 0.7, -1, lambda image: affine(image, 1, 0, 0, -0.21, 1, 0)),
        ("TranslateX", 0.7, 1, lambda image: affine(image, 1, 0, -0.315 * 40, 0, 1, 0)),
        ("TranslateY", 0.9, -1, lambda image: affine(image, 1, 0, 0, 0, 1, 0.405 * 30)),
    ],
)
def test_operations_and_strengths_of_the_official_code(picture, name, level, sign, expected):
    found = np.asarray(OPERATIONS[name](picture, level, sign)).astype(int)
    assert np.abs(found - np.asarray(expected(picture))).max() <= 1


def affine(image: Image.Image, *matrix: float) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, matrix, BICUBIC, fillcolor=GREY)


def test_operations_are_drawn_from_the_whole_set_and_done_half_of_the_time():
    """The official set has 15, no identity among them."""
    assert len(OPERATIONS) == 15 and "Identity" not in OPERATIONS
    frame = torch.randint(0, 256, (1, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    clip, results = Video(frame.expand(2, -1, -1, -1).clone()), []
    for number in range(300):
        with random_state(number):
            results.append(rand_augment(clip, 1, 9.0, 0.0))
    unchanged = sum(bool((result == clip).all()) for result in results)
    assert 110 < unchanged < 200  # Half of them; noise over all values leaves nothing for AutoContrast to do.
    different = {result.numpy().tobytes() for result in results}
    # One strength: an operation with a sign gives two clips, one without gives one.
    assert 18 < len(different) <= 1 + 9 * 2 + 6
    assert all(torch.equal(result[0], result[1]) for result in results)
