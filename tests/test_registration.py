"""`import flux_hf` makes checkpoints loadable through the Auto classes, and saved ones loadable without flux_hf."""

import json

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForVideoClassification,
    AutoProcessor,
    AutoVideoProcessor,
)

import flux_hf
from flux_hf import FluxVideoProcessor, FluxViTConfig, FluxViTForVideoClassification, FluxViTModel, registration

AUTO_MAP = {
    "AutoConfig": "configuration_fluxvit.FluxViTConfig",
    "AutoModel": "modeling_fluxvit.FluxViTModel",
    "AutoModelForVideoClassification": "modeling_fluxvit.FluxViTForVideoClassification",
}


def shipped_files(folder) -> set[str]:
    return {path.name for path in folder.glob("*.py")}


def test_public_names():
    assert set(flux_hf.__all__) <= set(dir(flux_hf))
    for name in flux_hf.__all__:
        assert getattr(flux_hf, name) is not None
    namespace = {}
    exec("from flux_hf import *", namespace)
    assert namespace["FluxViTModel"] is FluxViTModel
    with pytest.raises(AttributeError, match="no attribute 'FluxViTForTelepathy'"):
        _ = flux_hf.FluxViTForTelepathy


@pytest.mark.parametrize(
    ("auto_class", "expected"),
    [
        (AutoConfig, FluxViTConfig),
        (AutoModel, FluxViTModel),
        (AutoModelForVideoClassification, FluxViTForVideoClassification),
        (AutoVideoProcessor, FluxVideoProcessor),
        (AutoProcessor, FluxVideoProcessor),
    ],
)
def test_auto_classes_load_a_folder(tiny_checkpoint, auto_class, expected):
    assert type(auto_class.from_pretrained(tiny_checkpoint)) is expected


def test_auto_classes_build_from_a_config(tiny_config):
    assert type(AutoConfig.for_model("fluxvit")) is FluxViTConfig
    assert type(AutoModel.from_config(tiny_config)) is FluxViTModel
    assert type(AutoModelForVideoClassification.from_config(tiny_config)) is FluxViTForVideoClassification


def test_base_model_and_classifier_share_their_weights(tiny_checkpoint):
    base = AutoModel.from_pretrained(tiny_checkpoint).state_dict()
    weights = AutoModelForVideoClassification.from_pretrained(tiny_checkpoint).fluxvit.state_dict()
    assert base.keys() == weights.keys()
    assert all(torch.equal(base[name], weights[name]) for name in base)


def test_registering_again_changes_nothing(tiny_checkpoint):
    registration.register()
    assert type(AutoModel.from_pretrained(tiny_checkpoint)) is FluxViTModel


def test_saving_adds_the_source_files(tiny_checkpoint, tmp_path):
    assert json.loads((tiny_checkpoint / "config.json").read_text())["auto_map"] == AUTO_MAP
    processor = json.loads((tiny_checkpoint / "video_preprocessor_config.json").read_text())
    assert processor["auto_map"] == {"AutoVideoProcessor": "video_processing_fluxvit.FluxVideoProcessor"}
    assert shipped_files(tiny_checkpoint) >= {"configuration_fluxvit.py", "modeling_fluxvit.py"}
    assert shipped_files(tiny_checkpoint) >= {"video_processing_fluxvit.py", "video_decoding_fluxvit.py"}

    AutoModelForVideoClassification.from_pretrained(tiny_checkpoint).save_pretrained(tmp_path / "again")
    AutoVideoProcessor.from_pretrained(tiny_checkpoint).save_pretrained(tmp_path / "again")
    assert json.loads((tmp_path / "again" / "config.json").read_text())["auto_map"] == AUTO_MAP
    assert shipped_files(tmp_path / "again") == shipped_files(tiny_checkpoint)

    AutoModel.from_pretrained(tiny_checkpoint).save_pretrained(tmp_path / "base")
    assert json.loads((tmp_path / "base" / "config.json").read_text())["auto_map"].keys() >= {"AutoConfig", "AutoModel"}
