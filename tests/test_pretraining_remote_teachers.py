"""Teachers whose code comes with their checkpoint: a small one in the manner of InternVideo2."""

import json
import sys

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, dynamic_module_utils

from flux_hf import FluxViTForPreTraining
from flux_hf.pretraining.resampling import resample_frames, resample_tokens, resize_frames
from flux_hf.pretraining.teacher import likeness, load_teacher
from flux_hf.scripts import pretrain
from tests import tiny_pretraining, video_datasets
from tests.test_pretraining import options_of
from tests.test_pretraining_teachers import OWN_MEAN, OWN_STD, clips, for_teacher, seen, unit

CODE = """
import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling


class TinyVideoConfig(PreTrainedConfig):
    model_type = "tiny_video"


class TinyVideoModel(PreTrainedModel):
    config_class = TinyVideoConfig

    def __init__(self, config):
        super().__init__(config)
        width, kernel = config.hidden_size, (config.tubelet_size, config.patch_size, config.patch_size)
        tokens = config.num_frames // config.tubelet_size * (config.image_size // config.patch_size) ** 2
        self.patches = nn.Conv3d(3, width, kernel, kernel)
        self.cls = nn.Parameter(torch.randn(1, 1, width)) if config.with_cls else None
        self.positions = nn.Parameter(torch.randn(1, tokens, width))
        layer = lambda: nn.TransformerEncoderLayer(width, 2, 32, 0.0, batch_first=True, norm_first=True)
        self.blocks = nn.ModuleList([layer() for _ in range(config.num_hidden_layers)])
        self.projector = nn.Linear(width, 10) if config.with_pooler else None
        self.post_init()

    def forward(self, x, output_hidden_states=False):
        clip = x if self.config.channels_first else x.transpose(1, 2)
        tokens = self.patches(clip).flatten(2).transpose(1, 2) + self.positions
        if self.cls is not None:
            tokens = torch.cat([self.cls.expand(len(x), -1, -1), tokens], 1)
        states = [tokens]
        for block in self.blocks:
            states.append(block(states[-1]))
        pooled = None if self.projector is None else self.projector(states[-1].mean(1))
        return BaseModelOutputWithPooling(
            last_hidden_state=states[-1], pooler_output=pooled,
            hidden_states=tuple(states) if output_hidden_states else None,
        )
"""
INTERN_VIDEO = {"channels_first": True, "with_cls": True, "with_pooler": True}
TRANSFORMERS = {"channels_first": False, "with_cls": False, "with_pooler": False}
STUDENT = {"patch_size": 14, "image_mean": tiny_pretraining.MEAN, "image_std": tiny_pretraining.STD}


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """Where Transformers copies the code that it runs."""
    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", [*sys.path])
    return tmp_path / "modules"


@pytest.fixture
def checkpoint(tmp_path, modules):
    """Writes config, weights, code and processor of a model; `changes` are made to the config after the weights."""

    def write(variant: dict, code: str = CODE, **changes):
        folder = tmp_path / "tiny_video"
        folder.mkdir()
        config = {
            "model_type": "tiny_video",
            "auto_map": {"AutoConfig": "tiny_video.TinyVideoConfig", "AutoModel": "tiny_video.TinyVideoModel"},
            **{"hidden_size": 16, "num_hidden_layers": 3, "patch_size": 8, "image_size": 24},
            **{"num_frames": 4, "tubelet_size": 1},
            **variant,
        }
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "tiny_video.py").write_text(code)
        (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": OWN_MEAN, "image_std": OWN_STD}))
        torch.manual_seed(5)
        trusted = {"trust_remote_code": True}
        model = AutoModel.from_config(AutoConfig.from_pretrained(folder, **trusted), **trusted).eval()
        save_file(model.state_dict(), folder / "model.safetensors", {"format": "pt"})
        changed = {name: value for name, value in (config | changes).items() if value is not None}
        (folder / "config.json").write_text(json.dumps(changed))
        return str(folder), model

    return write


def test_internvideo_style_answers_as_the_model_itself(checkpoint):
    folder, model = checkpoint(INTERN_VIDEO)
    teacher = load_teacher(folder, **STUDENT, trust_remote_code=True)
    assert (teacher.depth, teacher.width, teacher.pooled_width) == (3, 16, 10)
    mask = seen(36, 20)
    output = teacher(clips(), mask, [1, 3])
    with torch.no_grad():
        direct = model(resize_frames(for_teacher(clips()), 24, 24).transpose(1, 2), output_hidden_states=True)
    for number, layer in zip((1, 3), output.layers, strict=True):
        torch.testing.assert_close(layer, unit(direct.hidden_states[number][:, 1:][mask].view(2, 20, 16)))
    torch.testing.assert_close(output.pooled, unit(direct.pooler_output))
    last = direct.hidden_states[3][:, 1:]
    torch.testing.assert_close(output.saliency, likeness(last, last.mean(1))[mask].view(2, 20))


def test_frames_first_without_cls_on_another_grid(checkpoint):
    folder, model = checkpoint(TRANSFORMERS | {"tubelet_size": 2, "num_frames": 8})
    teacher = load_teacher(folder, **STUDENT, trust_remote_code=True)
    assert teacher.pooled_width == 16
    everything = torch.ones(2, 6 * 16, dtype=torch.bool)
    output = teacher(clips(frames=6, size=56), everything, [2])
    own = resize_frames(resample_frames(for_teacher(clips(frames=6, size=56)), 8), 24, 24)
    with torch.no_grad():
        direct = model(own, output_hidden_states=True)
    expected = resample_tokens(direct.hidden_states[2], (4, 3, 3), (6, 4, 4))
    torch.testing.assert_close(output.layers[0], unit(expected))
    torch.testing.assert_close(output.pooled, unit(direct.last_hidden_state.mean(1)))


def test_in_bf16(checkpoint):
    folder, _ = checkpoint(INTERN_VIDEO)
    exact, short = (load_teacher(folder, **STUDENT, trust_remote_code=True, bf16=bf16) for bf16 in (False, True))
    one, other = (teacher(clips(), seen(36, 20), [3]) for teacher in (exact, short))
    assert short.model.dtype == torch.bfloat16
    assert F.cosine_similarity(one.layers[0], other.layers[0], dim=-1).min() > 0.99


def test_no_code_runs_unless_asked_for(tmp_path, modules):
    folder, ran = tmp_path / "hostile", tmp_path / "ran"
    folder.mkdir()
    auto_map = {"AutoConfig": "hostile.HostileConfig", "AutoModel": "hostile.HostileModel"}
    (folder / "config.json").write_text(json.dumps({"model_type": "hostile", "auto_map": auto_map}))
    (folder / "hostile.py").write_text(f"open({str(ran)!r}, 'w')\n")
    with pytest.raises(ValueError, match=r"hostile \(hostile\) comes with code of its own: give --trust_remote_code"):
        load_teacher(str(folder), **STUDENT)
    assert not ran.exists() and not modules.exists()


def test_the_command_asks_for_it(checkpoint, tmp_path):
    folder, _ = checkpoint(INTERN_VIDEO)
    videos = video_datasets.videofolder(tmp_path / "set", {"train": 3})
    command = [*options_of(tmp_path, folder), "--dataset", str(videos), "--token_budgets", "16", "8"]
    with pytest.raises(ValueError, match="trust_remote_code"):
        pretrain.main(command)
    pretrain.main([*command, "--trust_remote_code"])
    config = FluxViTForPreTraining.from_pretrained(tmp_path / "student").config
    assert (config.teacher_hidden_size, config.teacher_projection_dim) == (16, 10)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_frames": None, "patch_size": [8, 8]}, "config.json must give num_frames, patch_size as integers"),
        ({"num_hidden_layers": 2, "model_depth": 3}, r"ValueError: 4 hidden_states, expected 3 \(num_hidden_layers"),
        (
            {"tubelet_size": 2, "model_tubelet": 1},
            r"shape \(1, 37, 16\), expected \(1, 18, 16\), or \(1, 19, 16\) with",
        ),
    ],
)
def test_models_that_cannot_serve(checkpoint, changes, message):
    code = CODE.replace("range(config.num_hidden_layers)", 'range(getattr(config, "model_depth", 3))')
    code = code.replace("config.tubelet_size", 'getattr(config, "model_tubelet", config.tubelet_size)')
    code = code.replace("config.num_frames", "4").replace("config.patch_size", "8")
    folder, _ = checkpoint(INTERN_VIDEO, code, **changes)
    with pytest.raises(ValueError, match=message):
        load_teacher(folder, **STUDENT, trust_remote_code=True)
