"""Optical flow as a teacher of pre-training: its codes on clips whose motion is known, the trainer, the command."""

import json
import math
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from flux_hf import FluxViTForPreTraining
from flux_hf.checkpoints import example_clips
from flux_hf.data.reading import read_clip
from flux_hf.pretraining import FluxPreTrainer, load_teacher
from flux_hf.pretraining.pretraining import PretrainOptions
from flux_hf.pretraining.pretraining import pretrain as run_pretraining
from flux_hf.pretraining.teacher_cache import TeacherCache
from flux_hf.scripts import pretrain
from tests import tiny_pretraining, tiny_training, video_datasets
from tests.test_pretraining import losses, options_of
from tests.tiny_pretraining import MEAN, STD

cv2 = pytest.importorskip("cv2", reason="needs OpenCV (extra flow)")

from flux_hf.pretraining.flow_teacher import CENTRES, OpticalFlowTeacher, flow_method, motion_codes, quadrant_codes  # noqa: E402

PATCH, SIDE = 16, 96
ROWS = SIDE // PATCH


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    """A photograph of 640 x 427 pixels that scikit-learn ships."""
    datasets = pytest.importorskip("sklearn.datasets", reason="needs scikit-learn (extra flow)")
    return Image.fromarray(datasets.load_sample_image("china.jpg"))


@pytest.fixture(scope="module")
def teacher() -> OpticalFlowTeacher:
    return load_teacher("optical_flow", patch_size=PATCH, image_mean=MEAN, image_std=STD)


def pixels_of(*clips: np.ndarray) -> torch.Tensor:
    """uint8 (frames, height, width, 3) each -> (clips, frames, 3, height, width), as the student sees them."""
    pixels = torch.from_numpy(np.stack(clips)).permute(0, 1, 4, 2, 3).float() / 255
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    return (pixels - mean) / std


def panned(picture, right: float, down: float, frames: int = 6) -> np.ndarray:
    """What is shown moves by so many pixels between two frames."""
    corners = [(250 - right * number, 150 - down * number) for number in range(frames)]
    boxes = [(left, top, left + SIDE, top + SIDE) for left, top in corners]
    return np.stack([np.asarray(picture.resize((SIDE, SIDE), Image.BICUBIC, box=box)) for box in boxes])


def spun(picture, *, turn: float = 0.0, zoom: float = 1.0, frames: int = 6) -> np.ndarray:
    """The picture turns clockwise by degrees, or grows by a factor, about the middle."""
    whole = picture.crop((200, 100, 456, 356))
    found = []
    for number in range(frames):
        half = SIDE / 2 / zoom**number
        box = (128 - half, 128 - half, 128 + half, 128 + half)
        turned = whole.rotate(-turn * number, Image.BICUBIC)
        found.append(np.asarray(turned.resize((SIDE, SIDE), Image.BICUBIC, box=box)))
    return np.stack(found)


def all_seen(clips: torch.Tensor, tube: int = 1) -> torch.Tensor:
    return torch.ones(len(clips), clips.shape[1] // tube * ROWS * ROWS, dtype=torch.bool)


def look(teacher, *clips: np.ndarray, tube: int = 1):
    """Codes (clips, times, rows, columns, 9 right, 9 down), the pooled feature (clips, 4, 9, 9) and the saliency
    (clips, times, rows, columns)."""
    pixels = pixels_of(*clips)
    output = teacher(pixels, all_seen(pixels, tube), [1])
    times = pixels.shape[1] // tube
    grid = (times, ROWS, ROWS)
    steps = (len(CENTRES),) * 2
    return (
        output.layers[0].unflatten(2, steps).unflatten(1, grid),
        output.pooled.unflatten(1, (4, *steps)),
        output.saliency.unflatten(1, grid),
    )


def test_constants_of_a_teacher_are_those_of_its_output(teacher, picture):
    pixels = pixels_of(panned(picture, 1, 0), panned(picture, 0, 1))
    output = teacher.to(torch.device("cpu"))(pixels, all_seen(pixels), [1, 1, 1])
    assert (teacher.depth, teacher.width, teacher.pooled_width) == (1, 81, 324)
    assert [layer.shape for layer in output.layers] == [(2, 6 * ROWS * ROWS, 81)] * 3
    assert output.pooled.shape == (2, 324) and output.saliency.shape == (2, 6 * ROWS * ROWS)
    for units in (*output.layers, output.pooled):
        torch.testing.assert_close(units.norm(dim=-1), torch.ones(units.shape[:-1]))
    assert {output.layers[0].dtype, output.pooled.dtype, output.saliency.dtype} == {torch.float32}


@pytest.mark.parametrize("tube", [1, 2, 3])
@pytest.mark.parametrize(("right", "down"), [(3, 0), (-1.5, 0), (0, 0.65), (0, -3), (3, -1.5)])
def test_tokens_peak_at_the_motion_of_the_picture(teacher, picture, right, down, tube):
    """Phase correlation of OpenCV finds the same motion by another method."""
    clip = panned(picture, right, down)
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32) for frame in clip]
    window = cv2.createHanningWindow((SIDE, SIDE), cv2.CV_32F)
    moved = np.array(cv2.phaseCorrelate(grey[2], grey[4], window)[0]) / 2
    assert moved == pytest.approx((right, down), abs=0.2)
    codes, _, saliency = look(teacher, clip, tube=tube)
    assert codes.shape[1] == len(clip) // tube
    inner = codes[0, :, 1:-1, 1:-1].flatten(0, 2)
    peaks = inner.flatten(1).argmax(1)
    expected = [np.abs(np.array(CENTRES) - math.asinh(way)).argmin() for way in moved]
    assert (peaks == expected[0] * len(CENTRES) + expected[1]).float().mean() > 0.9
    speed = saliency[0, :, 1:-1, 1:-1].exp() - 0.1
    assert speed.median() == pytest.approx(math.hypot(*moved), rel=0.15)


def test_the_last_frame_repeats_the_pair_before_or_is_left_out_of_its_tube(teacher, picture):
    """The picture moves to the right and, between the last two frames, down."""
    clip = panned(picture, 2, 0)
    clip[-1] = np.asarray(picture.crop((242, 146, 242 + SIDE, 146 + SIDE)))  # where frame 4 was, 4 higher up
    codes, _, _ = look(teacher, clip)
    assert torch.equal(codes[:, -1], codes[:, -2]) and not torch.equal(codes[:, -2], codes[:, -3])
    in_twos, _, _ = look(teacher, clip, tube=2)
    torch.testing.assert_close(in_twos[:, -1], codes[:, -1])
    in_threes, _, _ = look(teacher, clip, tube=3)
    right, down = (in_threes[0, 1, 1:-1, 1:-1].sum(dim).mean((0, 1)).argmax() for dim in (-1, -2))
    expected = [np.abs(np.array(CENTRES) - math.asinh(way)).argmin() for way in (1, 2)]
    assert [right, down] == expected  # the mean of frames 3 to 4, 2 to the right, and 4 to 5, 4 down


@pytest.mark.parametrize("frames", [1, 4])
def test_without_motion_all_tokens_are_still(teacher, picture, frames):
    codes, pooled, saliency = look(teacher, panned(picture, 0, 0, frames))
    assert (codes.flatten(4).argmax(-1) == 40).all()
    torch.testing.assert_close(codes, codes[:, :1, :1, :1].expand_as(codes))
    torch.testing.assert_close(pooled, codes[:, 0, 0, :1].expand_as(pooled) / 2)
    torch.testing.assert_close(saliency.exp(), torch.full_like(saliency, 0.1), rtol=0.02, atol=0)


def test_a_flash_of_noise_has_codes_of_unit_length(teacher):
    """Flow between pictures that have nothing to do with each other is fast and wild."""
    noise = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), np.uint8)
    codes, pooled, saliency = look(teacher, noise)
    torch.testing.assert_close(codes.flatten(4).norm(dim=-1), torch.ones(codes.shape[:4]))
    assert saliency.isfinite().all() and pooled.isfinite().all()
    wild = motion_codes(torch.full((1, 16, 2), 1e4))
    torch.testing.assert_close(wild.norm(dim=-1), torch.ones(1))
    assert wild.argmax() == 80


def test_a_mirrored_clip_has_mirrored_codes(teacher, picture):
    """DIS itself is not quite symmetric: its patches begin at the upper left corner."""
    clip = np.concatenate([spun(picture, turn=3, frames=4), panned(picture, 2, 1, 4)])
    codes, pooled, _ = look(teacher, clip[:4], clip[4:])
    mirrored, mirrored_pooled, _ = look(teacher, *np.flip([clip[:4], clip[4:]], axis=3))
    expected = codes.flip(3, 4)
    assert likeness(mirrored, expected) > 0.95 > 0.7 > likeness(mirrored, codes.flip(3))
    expected = pooled[:, [1, 0, 3, 2]].flip(2)
    assert likeness(mirrored_pooled, expected) > 0.95 > 0.8 > likeness(mirrored_pooled, pooled)


def likeness(one: torch.Tensor, other: torch.Tensor) -> float:
    """The mean cosine of the codes (..., 9, 9)."""
    return torch.cosine_similarity(one.flatten(-2), other.flatten(-2), dim=-1).mean().item()


def test_the_pooled_feature_tells_turning_from_growing(teacher, picture):
    kinds = [{"turn": 4}, {"turn": -4}, {"zoom": 1.06}, {"zoom": 1 / 1.06}]
    _, pooled, _ = look(teacher, *(spun(picture, **kind) for kind in kinds))
    right, down = quadrant_motions(pooled)
    signs = torch.stack([right, down], -1).sign().int().tolist()
    upper_left = [signs[kind][0] for kind in range(4)]
    assert upper_left == [[1, -1], [-1, 1], [-1, -1], [1, 1]]
    for kind in range(4):
        assert signs[kind][3] == [-way for way in signs[kind][0]]
        assert signs[kind][2] == [-way for way in signs[kind][1]]
        others = [other for other in range(4) if other != kind]
        assert (
            max(torch.cosine_similarity(pooled[kind].flatten(), pooled[other].flatten(), 0) for other in others) < 0.9
        )


def quadrant_motions(pooled: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean steps to the right and down of each quadrant: (clips, 4) each."""
    steps = torch.tensor(CENTRES)
    total = pooled.sum((-2, -1))
    return (pooled.sum(-1) * steps).sum(-1) / total, (pooled.sum(-2) * steps).sum(-1) / total


def test_quadrants_lie_around_what_moves():
    """Four patches around a corner of the grid's middle cell, each with a code of its own; the rest is still."""
    codes, speed = torch.zeros(1, 2, 4, 4, 81), torch.zeros(1, 2, 4, 4)
    codes[..., 80] = 1
    for number, (row, column) in enumerate([(0, 1), (0, 2), (1, 1), (1, 2)]):
        codes[:, :, row, column] = torch.eye(81)[number]
        speed[:, :, row, column] = 1
    found = quadrant_codes(codes, speed).unflatten(1, (4, 81))
    torch.testing.assert_close(found[0, :, :4], torch.eye(4), atol=0.03, rtol=0)
    speed[:, :, 1] = 0  # the middle now cuts the patches of the first row in halves
    found = quadrant_codes(codes, speed).unflatten(1, (4, 81))
    torch.testing.assert_close(found[0, :, :4], torch.eye(4)[[0, 1, 0, 1]], atol=0.03, rtol=0)
    still = quadrant_codes(codes, 0 * speed).unflatten(1, (4, 81))
    torch.testing.assert_close(still[0, 0], codes[0, 0, :2, :2].mean((0, 1)))


@pytest.mark.parametrize(("height", "width"), [(64, 64), (64, 88), (80, 80), (24, 96), (96, 96), (112, 64)])
def test_no_size_leaves_the_scale_that_is_set_for_it(height, width):
    """OpenCV would without a word, and take ten times as long."""
    method = flow_method(height, width)
    scale, pictures = method.getFinestScale(), np.random.default_rng(0).integers(0, 256, (2, height, width), np.uint8)
    method.calc(*pictures, None)
    assert method.getFinestScale() == scale


@pytest.mark.parametrize(("height", "width"), [(64, 64), (80, 80), (64, 96)])
def test_smaller_pictures_of_any_shape(picture, height, width):
    options = {"patch_size": 8, "image_mean": MEAN, "image_std": STD}
    clip = panned(picture, 3, 0)[:, :height, :width]
    seen = torch.ones(1, 6 * (height // 8) * (width // 8), dtype=torch.bool)
    codes = load_teacher("optical_flow", **options)(pixels_of(clip), seen, [1]).layers[0]
    peaks = codes.unflatten(1, (6, height // 8, width // 8))[:, :, 2:-2, 2:-2].argmax(-1)
    assert (peaks == 7 * len(CENTRES) + 4).float().mean() > 0.8  # asinh(3) to the right, 0 down


def test_only_tokens_that_are_seen_come_back(teacher, picture):
    pixels = pixels_of(panned(picture, 2, 0), panned(picture, 0, -2))
    everything = teacher(pixels, all_seen(pixels), [1])
    order = torch.rand(2, 6 * ROWS * ROWS, generator=torch.Generator().manual_seed(0)).argsort(1)
    seen = order < 50
    some = teacher(pixels, seen, [1])
    assert torch.equal(some.layers[0], everything.layers[0][seen].unflatten(0, (2, 50)))
    assert torch.equal(some.saliency, everything.saliency[seen].unflatten(0, (2, 50)))
    assert torch.equal(some.pooled, everything.pooled)


@pytest.mark.parametrize(
    ("label", "way"),
    [("moves_right", (1, 0)), ("moves_left", (-1, 0)), ("moves_down", (0, 1)), ("moves_up", (0, -1))],
)
def test_clips_that_another_program_rendered(teacher, label, way):
    row = {"video": example_clips()[label]}
    frames = read_clip(row, lambda total: np.arange(16) * (total - 1) // 15, short_side=SIDE)
    clip = np.stack([np.asarray(Image.fromarray(frame).resize((SIDE, SIDE))) for frame in frames])
    codes, _, saliency = look(teacher, clip)
    weights = (saliency.exp() - 0.1)[..., None, None]
    mean = (codes * weights).sum((0, 1, 2, 3))
    mean[4, 4] = 0  # what stands still
    motion = torch.stack([mean.sum(1) @ torch.tensor(CENTRES), mean.sum(0) @ torch.tensor(CENTRES)])
    assert torch.cosine_similarity(motion, torch.tensor(way).float(), dim=0) > 0.8  # none moves along the axis exactly


def test_threads_of_opencv_are_left_as_they_were(teacher, picture):
    before = cv2.getNumThreads()
    try:
        cv2.setNumThreads(3)
        teacher(pixels_of(panned(picture, 1, 0)), torch.ones(1, 6 * ROWS * ROWS, dtype=torch.bool), [1])
        assert cv2.getNumThreads() == 3
    finally:
        cv2.setNumThreads(before)


def test_autocast_changes_nothing(teacher, picture):
    pixels = pixels_of(panned(picture, 2, 1))
    plain = teacher(pixels, all_seen(pixels), [1])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        short = teacher(pixels, all_seen(pixels), [1])
    assert torch.equal(plain.layers[0], short.layers[0]) and torch.equal(plain.pooled, short.pooled)


def flow_trainer(folder, **options) -> FluxPreTrainer:
    teacher = load_teacher("optical_flow", patch_size=14, image_mean=MEAN, image_std=STD)
    return FluxPreTrainer(
        model=tiny_pretraining.student(teacher_hidden_size=81, teacher_projection_dim=324),
        args=tiny_pretraining.arguments(folder, **options),
        train_dataset=tiny_training.clips(),
        processing_class=tiny_training.processor(),
        teacher=teacher,
    )


def test_training_and_looking_up_what_was_cached(tmp_path, monkeypatch):
    first = flow_trainer(tmp_path / "first", view_epochs=1, teacher_cache=str(tmp_path / "cache"), max_steps=3)
    first.train()
    assert len(losses(first)) == 3 and all(math.isfinite(entry["loss"]) for entry in losses(first))
    assert len(list((tmp_path / "cache").glob("*/*.safetensors"))) == 6
    monkeypatch.setattr(OpticalFlowTeacher, "look", None)
    again = flow_trainer(tmp_path / "again", view_epochs=1, teacher_cache=str(tmp_path / "cache"), max_steps=3)
    with pytest.raises(TypeError):
        again.teacher(torch.zeros(1, 2, 3, 28, 28), torch.ones(1, 8, dtype=torch.bool), [1])
    again.train()
    assert len(losses(again)) == 3


def test_a_cache_belongs_to_the_patch_of_the_student(tmp_path):
    options = {"image_mean": MEAN, "image_std": STD}
    one, same, other = (load_teacher("optical_flow", patch_size=size, **options) for size in (14, 14, 16))
    folders = [TeacherCache(tmp_path, each, [1], 16).folder for each in (one, same, other)]
    assert folders[0] == folders[1] != folders[2]


def test_the_command(tmp_path):
    folder = video_datasets.videofolder(tmp_path / "set", {"train": 4})
    pretrain.main([*options_of(tmp_path, "optical_flow"), "--dataset", str(folder)])
    student = FluxViTForPreTraining.from_pretrained(tmp_path / "student")
    assert (student.config.teacher_hidden_size, student.config.teacher_projection_dim) == (81, 324)
    history = json.loads((tmp_path / "student" / "trainer_state.json").read_text())["log_history"]
    assert len([entry for entry in history if math.isfinite(entry.get("loss", math.nan))]) == 2


def test_a_folder_of_that_name_has_to_be_meant(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny_pretraining.teacher_folder(tmp_path / "optical_flow")
    options = {"patch_size": 14, "image_mean": MEAN, "image_std": STD}
    assert load_teacher("./optical_flow", **options).width == tiny_pretraining.TEACHER["hidden_size"]
    assert load_teacher("optical_flow", **options).width == 81


def test_without_opencv_the_extra_is_named_before_a_run_is_deleted(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "flux_hf.pretraining.flow_teacher")
    monkeypatch.setitem(sys.modules, "cv2", None)
    (tmp_path / "checkpoint-1").mkdir()
    with pytest.raises(ImportError, match=r'pip install "flux_hf\[flow\]"'):
        load_teacher("optical_flow", patch_size=14, image_mean=MEAN, image_std=STD)
    options = PretrainOptions(dataset=["a"], teacher="optical_flow", model_config="c", overwrite=True)
    with pytest.raises(ImportError, match=r'pip install "flux_hf\[flow\]"'):
        run_pretraining(options, tiny_pretraining.arguments(tmp_path))
    assert (tmp_path / "checkpoint-1").exists()
