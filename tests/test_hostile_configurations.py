"""Damaged and hostile config.json and video_preprocessor_config.json: one ValueError that names the field, or an object
that works. Nothing is computed or allocated before."""

import json
import pathlib
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoVideoProcessor

from flux_hf import FluxVideoProcessor, FluxViTConfig, FluxViTForPreTraining, FluxViTForVideoClassification
from flux_hf.checkpoints import default_checkpoint, example_clips
from flux_hf.options.recipes import model_config_path
from flux_hf.scripts import classify

EVIL = [
    *(-1, 0, 1, 7, 99, 1.5, 10**5, 10**6, 10**9, 10**18, 10**30, -1e5, 1e-300, 1e308),
    *(float("nan"), float("inf"), -float("inf"), True, False, None, "3", "x", "", "\x00", "a" * 10**5),
    *([], {}, [0], [-1], [[]], [None], ["a"], [True], [1.5], [10**9], [1, 2, 3, 4], [0.0] * 3, [float("nan")] * 3),
    *(list(range(100_000, 0, -1)), list(range(1, 3000)), {"a": 1}, {"0": 1}, {"-1": "x"}, {"0": "a", "5": "b"}),
    *({"64": grid} for grid in (None, 8, [8], [0, 96], [8, 97], [10**9, 96], [8, 10**9], [4096, 8000], ["8", 96])),
    *({"height": 10**9, "width": 8}, {"height": 0, "width": 8}, {"shortest_edge": 10**9}, {"shortest_edge": True}),
    *({str(10**18): [8, 96]}, {"9" * 5000: [8, 96]}, {"64": [8, 96], "064": [8, 96]}),
]
FREE_TEXT = {"model_type", "transformers_version", "video_processor_type", "token_selection"}
CHECKPOINT = Path(default_checkpoint())
PRETRAINING = {"aligned_layers", "teacher_hidden_size", "teacher_projection_dim"}
SIZES = json.loads((CHECKPOINT / "config.json").read_text()) | {"problem_type": None, "num_hidden_layers": 2}
OPTIONS = json.loads((CHECKPOINT / "video_preprocessor_config.json").read_text())
OPTIONS |= dict.fromkeys(["num_frames", "fps", "size", "crop_size", "input_data_format", "device", "video_metadata"])
CLIP = np.random.default_rng(0).integers(0, 256, (4, 20, 24, 3), np.uint8)


def outcome(make, name: str, value):
    """What `make` makes of the value; None where it refuses it in the way it should."""
    started = time.process_time()
    try:
        made = make()
    except ValueError as error:
        message = str(error)
        assert name in message and len(message) < 2000 and "\n" not in message, (name, value, message[:300])
        made = None
    assert time.process_time() - started < 2, (name, value)
    return made


@pytest.mark.parametrize("name", SIZES)
def test_each_field_of_a_model(name):
    for value in EVIL:
        config = outcome(lambda value=value: FluxViTConfig.from_dict(SIZES | {name: value}), name, value)
        if config is not None and name not in FREE_TEXT:
            with torch.device("meta"):
                (FluxViTForPreTraining if name in PRETRAINING else FluxViTForVideoClassification)(config)
            assert FluxViTConfig.from_dict(json.loads(config.to_json_string(use_diff=False))).to_dict()


@pytest.mark.parametrize("name", OPTIONS)
def test_each_option_of_a_processor(name):
    for value in EVIL:
        processor = outcome(lambda value=value: FluxVideoProcessor.from_dict(OPTIONS | {name: value}), name, value)
        if processor is not None and not (name == "token_budget" and (value or 0) >= 10**5):  # in bounds, and much work
            call = outcome(lambda p=processor: p(CLIP, return_tensors="pt"), name, value)
            assert call is None or call["pixel_values_videos"].isfinite().all()


@pytest.mark.parametrize("size", ["fluxvit_small", "fluxvit_base", "fluxvit_nano"])
def test_models_that_are_too_large_as_a_whole(size):
    shipped = json.loads(model_config_path(size).read_text())
    heads = {"num_attention_heads": 1, "pooler_num_attention_heads": 1}
    for change in (
        {"hidden_size": 2**15, **heads},
        {"num_hidden_layers": 256, "hidden_size": 2**13, **heads},
        {"position_frames": 2**16},
        {"position_size": 2**12 * 14 // 14 * shipped["patch_size"]},
        {"mlp_ratio": 1024.0, "hidden_size": 2**12, **heads},
    ):
        assert outcome(lambda change=change: FluxViTConfig(**shipped | change), next(iter(change)), change) is None


def test_every_way_in(tmp_path):
    """Auto classes, files, arguments of from_pretrained, assignment and the type of the error."""
    for change, word in (({"num_hidden_layers": -1}, "num_hidden_layers"), ({"num_labels": 10**9}, "num_labels")):
        (tmp_path / "config.json").write_text(json.dumps({"model_type": "fluxvit"} | change))
        for load in (AutoConfig.from_pretrained, FluxViTConfig.from_pretrained):
            with pytest.raises(ValueError, match=word):
                load(tmp_path)
        with pytest.raises(ValueError, match=word):
            FluxViTConfig.from_json_file(tmp_path / "config.json")
        with pytest.raises(ValueError, match=word):
            setattr(FluxViTConfig(), *next(iter(change.items())))
    with pytest.raises(ValueError, match="num_attention_heads"):  # fits alone, but not the rest
        FluxViTConfig.from_pretrained(CHECKPOINT, num_attention_heads=7)
    (tmp_path / "video_preprocessor_config.json").write_text(json.dumps(OPTIONS | {"resample": 99}))
    with pytest.raises(ValueError, match="resample"):
        AutoVideoProcessor.from_pretrained(tmp_path)
    (tmp_path / "video_preprocessor_config.json").write_text("[1e999]")
    with pytest.raises(ValueError, match="JSON object"):
        FluxVideoProcessor.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="token_budget"):
        FluxVideoProcessor()(CLIP, token_budget=10**18)
    with pytest.raises(ValueError, match="fps=1000"):
        FluxVideoProcessor()(CLIP, fps=1000, video_metadata={"total_num_frames": 4, "fps": 0.01})


@pytest.fixture
def copied(tmp_path):
    shutil.copytree(CHECKPOINT, tmp_path / "copy")
    return tmp_path / "copy"


def a_pickle_with_code(folder: Path):
    (folder / "model.safetensors").unlink()
    torch.save({"a": torch.zeros(1), "b": pathlib.PurePosixPath}, folder / "pytorch_model.bin")


def numbers_that_are_none(folder: Path):
    weights = load_file(folder / "model.safetensors")
    weights["classifiers.0.bias"] = weights["classifiers.0.bias"] * float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def half(folder: Path):
    (folder / "model.safetensors").write_bytes((CHECKPOINT / "model.safetensors").read_bytes()[:9999])


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (half, "model.safetensors is damaged"),
        (a_pickle_with_code, "accepted is model.safetensors"),
        (numbers_that_are_none, "0.bias holds numbers that are not finite"),
        (lambda folder: (folder / "config.json").write_text("[1]"), "config.json holds no JSON object"),
        (lambda folder: (folder / "config.json").write_text("[" * 100_000), "config.json is damaged"),
        (lambda folder: (folder / "config.json").write_text(json.dumps(SIZES | {"patch_size": 0})), "patch_size"),
        (lambda folder: (folder / "video_preprocessor_config.json").write_text("7"), "config.json holds no JSON"),
    ],
)
def test_commands_say_what_is_wrong_with_a_checkpoint(damage, word, copied):
    """One line: the option, the file, and nothing that PyTorch advises."""
    damage(copied)
    clip = next(iter(example_clips().values()))
    with pytest.raises(ValueError, match=word) as found:
        classify.main([clip, "--checkpoint", str(copied), "--token_budgets", "64"])
    assert f"--checkpoint {copied}" in str(found.value) and "weights_only" not in str(found.value)
