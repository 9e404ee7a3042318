"""Trembling, blur, poor light, noise and compression: what each does, with its probability, to all frames of a clip."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2.functional import to_dtype
from torchvision.tv_tensors import Video

from flux_hf.training import degradation
from flux_hf.training.augmentation import ClipAugmentation, random_state
from flux_hf.training.degradation import degrade
from tests import tiny_training

ONE_OF_EACH = {
    "TREMBLING": (0.05, 0.05),
    "BLUR": (1.0, 1.0),
    "LIGHT": (0.5, 0.5),
    "NOISE": (0.05, 0.05),
    "QUALITY": (10, 10),
}


def picture(frames: int = 3) -> Video:
    """A fine checkerboard and a grey half, the same in every frame; bytes."""
    board = (torch.arange(48)[:, None] + torch.arange(32)) % 2 * 100 + 60
    one = torch.cat([board, torch.full((48, 32), 110)], dim=1).to(torch.uint8)
    return Video(one.expand(frames, 3, 48, 64).contiguous())


def values(frames: int = 3) -> Video:
    """The picture as degrade takes it."""
    return to_dtype(picture(frames), torch.float32, scale=True)


def only(monkeypatch, name: str) -> torch.Tensor:
    """The picture after one of them at a known strength, in values of bytes."""
    drawn = iter([each == name for each in ONE_OF_EACH])
    monkeypatch.setattr(degradation, "_drawn", lambda probability: next(drawn))
    monkeypatch.setattr(degradation, name, ONE_OF_EACH[name])
    with random_state(0):
        return 255 * degrade(values(), 1.0).as_subclass(torch.Tensor)


def test_blur_takes_the_fine_pattern_and_leaves_the_grey(monkeypatch):
    after = only(monkeypatch, "BLUR")
    assert after[..., 4:24].std() < 3 < picture()[..., 4:24].float().std()
    assert (after[..., 40:60] - 110).abs().max() < 1e-3
    assert torch.equal(after[0], after[2])


def test_trembling_moves_every_frame_by_another_way_and_leaves_the_grey(monkeypatch):
    after = only(monkeypatch, "TREMBLING")
    assert (after[..., 44:60] - 110).abs().max() < 1e-3
    assert all((after[a] - after[b]).abs().mean() > 1 for a, b in ((0, 1), (0, 2), (1, 2)))


def test_trembling_has_its_strength(monkeypatch):
    ramp = Video(torch.linspace(0, 1, 101).expand(400, 3, 5, 101).contiguous())  # a step of 1 % a pixel
    with random_state(2):
        moved = 100 * (degradation._trembling(ramp, 0.02) - ramp)[:, 0, 2, 50]
    assert moved.std() == pytest.approx(0.02 * 101, rel=0.1)


def test_poor_light_is_dark_and_flickers_from_frame_to_frame(monkeypatch):
    monkeypatch.setattr(degradation, "FLICKER", (0.0, 0.0))
    assert (only(monkeypatch, "LIGHT") - picture() / 2).abs().max() < 1e-3
    monkeypatch.setattr(degradation, "FLICKER", (0.02, 0.02))
    gains = only(monkeypatch, "LIGHT") / picture()
    assert gains.flatten(1).std(1).max() < 1e-5
    assert 0.001 < gains.flatten(1).mean(1).std() < 0.05


def test_noise_has_its_strength_and_is_another_in_every_frame(monkeypatch):
    noise = (only(monkeypatch, "NOISE") - picture().float()) / 255
    assert noise.std() == pytest.approx(0.05, rel=0.03)
    assert noise.mean().abs() < 0.002
    assert torch.corrcoef(noise.flatten(1))[0, 1].abs() < 0.05


def test_compression_is_that_of_pillow(monkeypatch):
    file = io.BytesIO()
    Image.fromarray(picture()[0].permute(1, 2, 0).numpy()).save(file, "JPEG", quality=10)
    expected = torch.from_numpy(np.asarray(Image.open(file)).copy()).permute(2, 0, 1).float()
    after = only(monkeypatch, "QUALITY")
    assert torch.equal(after[0].round(), expected)
    assert (after[0] - picture()[0]).abs().mean() > 5


def test_each_comes_with_its_probability():
    changed = 0
    with random_state(1):
        for _ in range(200):
            changed += not torch.equal(degrade(values(1), 0.2), values(1))
    assert changed / 200 == pytest.approx(1 - 0.8**5, abs=0.1)
    assert torch.equal(degrade(values(), 0.0), values())


def test_training_views_are_degraded_where_it_is_asked_for(tmp_path):
    def view(probability: float) -> torch.Tensor:
        args = tiny_training.arguments(tmp_path, random_degradation=probability, min_crop_area=1.0, rand_augment_ops=0)
        with random_state(3):
            return ClipAugmentation(args, [0.5] * 3, [0.25] * 3, flip=False)(picture().permute(0, 2, 3, 1).numpy(), 28)

    assert (view(0.0)[0] == view(0.0)[1]).all()
    assert (view(1.0)[0] != view(1.0)[1]).float().mean() > 0.5


def test_where_it_is_off_it_draws_no_random_numbers(tmp_path, monkeypatch):
    """Trainings of before it came are as they were."""
    monkeypatch.setattr("flux_hf.training.augmentation.degrade", None)
    args = tiny_training.arguments(tmp_path)
    view = ClipAugmentation(args, [0.5] * 3, [0.25] * 3)(picture().permute(0, 2, 3, 1).numpy(), 28)
    assert view.shape == (3, 3, 28, 28)


def test_a_probability_is_one(tmp_path):
    with pytest.raises(ValueError, match="random_degradation must be at least 0.0 and at most 1.0"):
        tiny_training.arguments(tmp_path, random_degradation=1.5)
