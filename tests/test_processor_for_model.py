"""`FluxVideoProcessor.for_model`: the pixels that a model takes, for models of every family."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    AutoVideoProcessor,
    TimesformerConfig,
    TimesformerForVideoClassification,
    TimmWrapperConfig,
    VideoMAEConfig,
    VideoMAEForVideoClassification,
    VivitConfig,
    VivitForVideoClassification,
    VJEPA2Config,
    VJEPA2ForVideoClassification,
    XCLIPConfig,
)
from transformers.testing_utils import CaptureLogger
from transformers.utils import logging

from flux_hf import FluxVideoProcessor, FluxViTForVideoClassification, default_checkpoint
from flux_hf.modeling.configuration_fluxvit import FluxViTConfig
from flux_hf.modeling.flux_model_fluxvit import FluxModel
from flux_hf.processing import model_settings_fluxvit

TINY = {"hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2}
MLP = {"intermediate_size": 8}
PREDICTOR = {"pred_hidden_size": 12, "pred_num_hidden_layers": 1, "pred_num_attention_heads": 2}

FAMILIES = {
    "videomae": (VideoMAEForVideoClassification, VideoMAEConfig(**TINY, **MLP, num_frames=4)),
    "vjepa2": (
        VJEPA2ForVideoClassification,
        VJEPA2Config(**TINY, **PREDICTOR, frames_per_clip=4, num_pooler_layers=1),
    ),
    "vivit": (VivitForVideoClassification, VivitConfig(**TINY, **MLP, num_frames=4)),
    "timesformer": (
        TimesformerForVideoClassification,
        TimesformerConfig(**TINY, **MLP, num_frames=4, attention_type="joint_space_time"),
    ),
}

OTHERS = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.2, 0.3, 0.4]}
SAVED = {
    "videomae": {"image_processor_type": "VideoMAEImageProcessor", "resample": 3, **OTHERS},
    "vjepa2": {"video_processor_type": "VJEPA2VideoProcessor", "crop_size": {"height": 256, "width": 256}, **OTHERS},
    "vivit": {"image_processor_type": "VivitImageProcessor", "offset": True, "rescale_factor": 1 / 127.5, **OTHERS},
    "timesformer": {"image_processor_type": "VideoMAEImageProcessor", "size": {"shortest_edge": 240}, **OTHERS},
}
"""What the checkpoints say of their processors, with colours that no class has by default."""


def clip(frames: int, height: int, width: int) -> np.ndarray:
    """Coloured blobs with soft edges, so that the way of resizing makes a difference."""
    small = np.random.default_rng(0).integers(0, 256, (frames, 15, 20, 3), dtype=np.uint8)
    return np.stack([np.asarray(Image.fromarray(frame).resize((width, height), Image.BICUBIC)) for frame in small])


def pixels(processor, video, **options) -> torch.Tensor:
    batch = processor(video, return_tensors="pt", **options)
    return batch["pixel_values" if "pixel_values" in batch else "pixel_values_videos"]


@pytest.fixture(scope="module")
def models():
    return {family: model_class(config) for family, (model_class, config) in FAMILIES.items()}


@pytest.fixture
def capture_warnings():
    """A function that returns what the module has logged in the test so far."""
    with CaptureLogger(logging.get_logger(model_settings_fluxvit.__name__)) as captured:
        yield captured.io.getvalue


@pytest.fixture
def from_folder(models, tmp_path):
    """A model of a family that came from a folder with these files."""

    def make(family: str, **files: dict):
        model = models[family]
        model.config.save_pretrained(tmp_path)
        for name, content in files.items():
            (tmp_path / f"{name}.json").write_text(json.dumps(content))
        return SimpleNamespace(config=model.config, name_or_path=str(tmp_path))

    return make


# ViViT's stock processor rescales, subtracts 1 and normalises in three steps of float32, ours does it in one.
TOLERANCES = {"vivit": 1e-6}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("height, width", [(224, 224), (292, 300), (90, 120), (360, 480)])
def test_the_pixels_are_those_of_the_stock_processor(family, height, width, from_folder, tmp_path):
    model = from_folder(family, preprocessor_config=SAVED[family])
    stock, ours = AutoVideoProcessor.from_pretrained(tmp_path), FluxVideoProcessor.for_model(model)
    video = clip(4, height, width)
    for options in ({}, {"do_resize": False}):
        expected = pixels(stock, video, **options)
        torch.testing.assert_close(pixels(ours, video, **options), expected, rtol=0, atol=TOLERANCES.get(family, 0))


@pytest.mark.parametrize(
    "family, saved",
    [
        ("videomae", {"size": 256, "crop_size": 224, "feature_extractor_type": "VideoMAEFeatureExtractor"}),
        ("videomae", {"size": {"height": 256, "width": 256}, "crop_size": {"height": 224, "width": 224}}),
        ("videomae", {"size": {"height": 224, "width": 224}, "do_center_crop": False, "do_normalize": False}),
        ("videomae", {"do_rescale": False, "image_mean": [100.0] * 3, "image_std": [50.0] * 3}),
        ("vivit", {"do_normalize": False}),
        ("vivit", {"image_mean": 0.3, "image_std": 0.7}),
        ("vivit", {"do_rescale": False}),
        ("vjepa2", {"crop_size": 256, "do_convert_rgb": None, "data_format": "channels_first"}),
    ],
)
def test_whatever_a_checkpoint_says(family, saved, from_folder, tmp_path):
    model = from_folder(family, preprocessor_config=saved)
    ours, video = FluxVideoProcessor.for_model(model), clip(4, 300, 400)
    expected = pixels(AutoVideoProcessor.from_pretrained(tmp_path), video)
    torch.testing.assert_close(pixels(ours, video), expected, rtol=0, atol=TOLERANCES.get(family, 0))


@pytest.mark.parametrize(
    "family, shape", {"videomae": (2, 16), "vjepa2": (2, 16), "vivit": (2, 16), "timesformer": (1, 16)}.items()
)
def test_a_model_takes_what_its_processor_makes(family, shape, models):
    model = models[family]
    processor = FluxVideoProcessor.for_model(model)
    assert (processor.tubelet_size, processor.patch_size) == shape
    video = pixels(processor, clip(20, 90, 120))
    assert video.shape == (1, 4, 3, *[256 if family == "vjepa2" else 224] * 2)
    model(video)
    for budget in (None, 7, 512, 3072):
        assert pixels(processor, clip(20, 90, 120), token_budget=budget).shape == video.shape


@pytest.mark.parametrize(
    "files",
    [
        {"video_preprocessor_config": SAVED["videomae"]},
        {"processor_config": {"video_processor": SAVED["videomae"], "processor_class": "X"}},
        {"preprocessor_config": {**OTHERS, "resample": 3}},
    ],
)
def test_wherever_a_checkpoint_keeps_it(files, from_folder):
    processor = FluxVideoProcessor.for_model(from_folder("videomae", **files))
    assert (processor.image_mean, processor.image_std) == (tuple(OTHERS["image_mean"]), tuple(OTHERS["image_std"]))
    assert processor.resample == 3


def test_the_class_that_a_checkpoint_names(from_folder, tmp_path):
    model = from_folder("timesformer", preprocessor_config={"image_processor_type": "VivitImageProcessor"})
    ours, video = FluxVideoProcessor.for_model(model), clip(4, 90, 120)
    expected = pixels(AutoVideoProcessor.from_pretrained(tmp_path), video)
    torch.testing.assert_close(pixels(ours, video), expected, rtol=0, atol=TOLERANCES["vivit"])


COLOURS = {
    "videomae": ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    "vjepa2": ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    "vivit": ([1.5] * 3, [0.5] * 3),  # (x / 127.5 - 1 - 0.5) / 0.5
    "timesformer": ([0.45] * 3, [0.225] * 3),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_without_a_checkpoint_the_family_decides(family, models, capture_warnings):
    processor = FluxVideoProcessor.for_model(models[family])
    assert [list(processor.image_mean), list(processor.image_std)] == list(COLOURS[family])
    assert capture_warnings() == ""


@pytest.mark.parametrize("name", ["no/such-checkpoint", "FOLDER"])
def test_a_checkpoint_without_a_processor_is_said(name, from_folder, tmp_path, capture_warnings):
    model = from_folder("timesformer")
    model.name_or_path = name = str(tmp_path) if name == "FOLDER" else name
    assert FluxVideoProcessor.for_model(model).image_mean == (0.45, 0.45, 0.45)
    said = capture_warnings()
    assert name in said and "image_mean=(0.45, 0.45, 0.45)" in said


def test_a_damaged_file_is_an_error(from_folder, tmp_path):
    model = from_folder("videomae")
    (tmp_path / "preprocessor_config.json").write_text("{")
    with pytest.raises(ValueError, match="preprocessor_config.json"):
        FluxVideoProcessor.for_model(model)
    (tmp_path / "preprocessor_config.json").write_text("[]")
    with pytest.raises(ValueError, match="must be a JSON object"):
        FluxVideoProcessor.for_model(model)
    (tmp_path / "preprocessor_config.json").write_text('{"image_mean": [0.1, 0.2]}')
    with pytest.raises(ValueError, match="image_mean"):
        FluxVideoProcessor.for_model(model)


def test_the_model_decides_the_size_and_the_margin_stays():
    config = VJEPA2Config(**TINY, **PREDICTOR, frames_per_clip=6, crop_size=64)
    processor = FluxVideoProcessor.for_model(SimpleNamespace(config=config))
    assert (processor.num_frames, dict(processor.size)) == (6, {"shortest_edge": 73})
    assert processor.choose_grid(100) == (6, 64)
    config = VideoMAEConfig(**TINY, image_size=[32, 64], patch_size=[8, 8])
    assert FluxVideoProcessor.for_model(SimpleNamespace(config=config)).choose_grid() == (16, (32, 64))


def test_options_win(models):
    model = models["vjepa2"]

    def grid(budget=None, **options):
        return FluxVideoProcessor.for_model(model, **options).choose_grid(budget)

    assert grid(num_frames=8) == (8, 256)
    assert grid(size=64) == (4, 64)
    assert grid(size={"shortest_edge": 96}, crop_size=64) == (4, 64)
    table = {512: (8, 96), 64: (2, 64)}
    assert grid(512, grids=table) == (8, 96) and grid(64, grids=table) == (2, 64)
    assert grid(64, grids=table, num_frames=6) == (6, 64)
    assert FluxVideoProcessor.for_model(model, image_mean=[0.5] * 3, token_budget=9).token_budget == 9
    with pytest.raises(TypeError, match="no option 'token_budgets'"):
        FluxVideoProcessor.for_model(model, token_budgets=9)
    with pytest.raises(ValueError, match="grids entry 512.*tubelet_size=2"):
        FluxVideoProcessor.for_model(model, grids={512: (7, 96)})


class SelectingConfig(VideoMAEConfig):
    """As of a model with token selection: derived from the family's."""

    model_type = "flux_videomae"
    token_budget: int | None = None


class Selecting(FluxModel):
    patch_shape, native_grid = (2, 16), (16, 224, 224)

    def __init__(self, name_or_path="", **settings):
        self.config, self.name_or_path = SelectingConfig(**TINY, **settings), name_or_path


def test_a_model_with_token_selection():
    processor = FluxVideoProcessor.for_model(Selecting(token_budget=300))
    assert (processor.token_budget, processor.tubelet_size, processor.patch_size) == (300, 2, 16)
    assert list(processor.image_mean) == COLOURS["videomae"][0] and processor.choose_grid() == (16, 224)


def test_what_was_saved_beside_a_model_comes_back(tmp_path):
    saved = FluxVideoProcessor.for_model(Selecting(), grids={300: (8, 96)}, token_budget=200, image_mean=[0.1] * 3)
    saved.save_pretrained(tmp_path)
    loaded = FluxVideoProcessor.for_model(Selecting(str(tmp_path)))
    assert loaded.to_dict() == saved.to_dict() and loaded.choose_grid(300) == (8, 96)
    assert FluxVideoProcessor.for_model(Selecting(str(tmp_path), token_budget=300)).token_budget == 300


def test_fluxvit(capture_warnings):
    checkpoint = default_checkpoint()
    model = FluxViTForVideoClassification.from_pretrained(checkpoint)
    assert FluxVideoProcessor.for_model(model).to_dict() == FluxVideoProcessor.from_pretrained(checkpoint).to_dict()
    fresh = FluxVideoProcessor.for_model(
        FluxViTForVideoClassification(FluxViTConfig(**TINY, pooler_num_attention_heads=2, patch_size=12))
    )
    assert fresh.to_dict() == FluxVideoProcessor(patch_size=12).to_dict() and capture_warnings() == ""


PRETRAINED = {
    "input_size": (3, 224, 224),
    "crop_pct": 0.9,
    "crop_mode": "center",
    "interpolation": "bicubic",
    "mean": (0.1, 0.2, 0.3),
    "std": (0.2, 0.3, 0.4),
}


def test_timm_by_its_pretrained_cfg(capture_warnings):
    embedding = SimpleNamespace(patch_size=(16, 16), img_size=(64, 64))
    raw = SimpleNamespace(pretrained_cfg=PRETRAINED, patch_embed=embedding)
    wrapped = SimpleNamespace(config=TimmWrapperConfig(pretrained_cfg=PRETRAINED), timm_model=raw)
    for model in (raw, wrapped):
        processor = FluxVideoProcessor.for_model(model)
        assert (processor.patch_size, processor.tubelet_size, processor.resample) == (16, 1, 3)
        assert (processor.image_mean, processor.image_std) == (PRETRAINED["mean"], PRETRAINED["std"])
        assert processor.choose_grid(100) == (8, 64) and dict(processor.size) == {"shortest_edge": 71}
    raw.pretrained_cfg = PRETRAINED | {"crop_mode": "squash"}
    assert dict(FluxVideoProcessor.for_model(raw).size) == {"height": 71, "width": 71}
    assert capture_warnings() == ""
    raw.pretrained_cfg = PRETRAINED | {"crop_mode": "border"}
    FluxVideoProcessor.for_model(raw)
    assert "crop_mode 'border'" in capture_warnings()


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "vit_small_patch14_dinov2"])
@pytest.mark.parametrize("mode", ["center", "squash"])
def test_timm_models(name, mode):
    """timm resizes with Pillow, which rounds otherwise: less than 1 % of the numbers, by two grey levels at most."""
    timm = pytest.importorskip("timm")
    model = timm.create_model(name, depth=1, img_size=112)
    model.pretrained_cfg = model.pretrained_cfg | {"crop_mode": mode, "crop_pct": 0.9, "input_size": (3, 112, 112)}
    transform = timm.data.create_transform(**timm.data.resolve_data_config(model.pretrained_cfg), is_training=False)
    processor = FluxVideoProcessor.for_model(model, num_frames=4)
    video = clip(4, 150, 200)
    expected = torch.stack([transform(Image.fromarray(frame)) for frame in video])
    levels = (pixels(processor, video)[0] - expected).abs() * 255 * torch.tensor(processor.image_std)[:, None, None]
    assert levels.max() < 2.1 and (levels > 0.5).float().mean() < 0.01


def test_a_family_that_transformers_does_not_know(capture_warnings):
    class Other(Selecting):
        patch_shape, native_grid = (1, 14), (6, 56, 56)

        def __init__(self):
            self.config = SimpleNamespace(token_budget=None)

    processor = FluxVideoProcessor.for_model(Other())
    assert (processor.patch_size, processor.choose_grid(50)) == (14, (6, 56))
    Other.native_grid = (1, 28, 56)  # trained on pictures
    assert FluxVideoProcessor.for_model(Other()).choose_grid() == (8, (28, 56))
    assert list(processor.image_mean) == COLOURS["videomae"][0] and "Other" in capture_warnings()


@pytest.mark.parametrize(
    "model, patch",
    [
        (SimpleNamespace(config=XCLIPConfig()), "None"),
        (SimpleNamespace(config=VideoMAEConfig(patch_size=[16, 8])), r"\[16, 8\]"),
        ("MCG-NJU/videomae-base", "None"),
    ],
)
def test_models_without_square_patches(model, patch):
    with pytest.raises(ValueError, match=f"square patches; {type(model).__name__} has patch_size {patch}"):
        FluxVideoProcessor.for_model(model)
