"""A DINOv2 encoder comes out of an ONNX file as it went in."""

import json
import warnings

import onnx
import pytest
import torch
from onnx import TensorProto, helper
from transformers import AutoModel, Dinov2Config, Dinov2Model

from flux_hf.pretraining.teacher import ImageTeacher, load_teacher
from flux_hf.scripts.experiments.dinov2_onnx.extract import main


class Wrapped(torch.nn.Module):
    def __init__(self, backbone: Dinov2Model):
        super().__init__()
        self.backbone = backbone

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.backbone(pixel_values=pixels).last_hidden_state


@pytest.fixture
def backbone() -> Dinov2Model:
    torch.manual_seed(0)
    config = Dinov2Config(
        hidden_size=128, num_hidden_layers=3, num_attention_heads=2, mlp_ratio=2, image_size=56, patch_size=14
    )
    return Dinov2Model(config).eval()


@pytest.fixture
def onnx_file(backbone, tmp_path):
    """By the exporter that most such files were made with."""
    path = tmp_path / "model.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(Wrapped(backbone), (torch.zeros(1, 3, 56, 56),), path, dynamo=False)
    return path


def test_same_outputs_after_extraction(backbone, onnx_file, tmp_path, capsys):
    names = {entry.name for entry in onnx.load(onnx_file).graph.initializer}
    assert not any(name.endswith("fc1.weight") for name in names)
    main([str(onnx_file), str(tmp_path / "teacher"), "--image_mean", "0.5", "0.4", "0.3"])
    assert "3 layers, width 128, patch 14" in capsys.readouterr().out
    extracted = AutoModel.from_pretrained(tmp_path / "teacher")
    pixels = torch.randn(2, 3, 56, 56)
    with torch.no_grad():
        expected, found = (model(pixels, output_hidden_states=True) for model in (backbone, extracted))
    assert len(found.hidden_states) == 4
    for before, after in zip(expected.hidden_states, found.hidden_states, strict=True):
        torch.testing.assert_close(after, before)
    torch.testing.assert_close(found.pooler_output, expected.pooler_output)
    processor = json.loads((tmp_path / "teacher" / "preprocessor_config.json").read_text())
    assert processor["image_mean"] == [0.5, 0.4, 0.3] and processor["image_std"] == [0.229, 0.224, 0.225]
    options = {"patch_size": 8, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    assert isinstance(load_teacher(str(tmp_path / "teacher"), **options), ImageTeacher)


def test_names_from_before_transformers_5(backbone, onnx_file, tmp_path):
    """Those of the files that are published."""
    model = onnx.load(onnx_file)
    old = {"q_proj": "attention/query", "k_proj": "attention/key", "v_proj": "attention/value"}
    for new, before in (old | {"o_proj": "output/dense"}).items():
        for node in model.graph.node:
            node.name = node.name.replace(f"/{new}/", f"/{before}/")
            for names in (node.input, node.output):
                names[:] = [name.replace(f".{new}.", f".{before.replace('/', '.')}.") for name in names]
        for entry in model.graph.initializer:
            entry.name = entry.name.replace(f".{new}.", f".{before.replace('/', '.')}.")
    assert "attention.attention.query.bias" in str(model.graph) and ".q_proj." not in str(model.graph)
    onnx.save(model, tmp_path / "old.onnx")
    main([str(tmp_path / "old.onnx"), str(tmp_path / "teacher")])
    pixels = torch.randn(1, 3, 56, 56)
    with torch.no_grad():
        found = AutoModel.from_pretrained(tmp_path / "teacher")(pixels).last_hidden_state
        torch.testing.assert_close(found, backbone(pixels).last_hidden_state)


def test_the_first_layers_alone(backbone, onnx_file, tmp_path):
    main([str(onnx_file), str(tmp_path / "teacher"), "--layers", "2"])
    pixels = torch.randn(1, 3, 56, 56)
    with torch.no_grad():
        expected = backbone(pixels, output_hidden_states=True).hidden_states
        found = AutoModel.from_pretrained(tmp_path / "teacher")(pixels, output_hidden_states=True)
    assert len(found.hidden_states) == 3
    torch.testing.assert_close(found.hidden_states[2], expected[2])
    torch.testing.assert_close(found.last_hidden_state, backbone.layernorm(expected[2]))
    with pytest.raises(ValueError, match="layers must be from 1 to 3, got 4"):
        main([str(onnx_file), str(tmp_path / "other"), "--layers", "4"])


def test_files_without_an_encoder_are_refused(tmp_path):
    graph = helper.make_graph([], "empty", [], [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])])
    onnx.save(helper.make_model(graph), tmp_path / "empty.onnx")
    with pytest.raises(ValueError, match=r"empty\.onnx must hold one DINOv2 encoder, found 0"):
        main([str(tmp_path / "empty.onnx"), str(tmp_path / "teacher")])
    cls = helper.make_tensor("embeddings.cls_token", TensorProto.FLOAT, [1, 1, 2], [0.0, 0.0])
    graph = helper.make_graph([], "cls", [], [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])], [cls])
    onnx.save(helper.make_model(graph), tmp_path / "cls.onnx")
    with pytest.raises(ValueError, match=r"cls\.onnx: the encoder lacks embeddings\.patch_embeddings"):
        main([str(tmp_path / "cls.onnx"), str(tmp_path / "teacher")])
    assert not (tmp_path / "teacher").exists()
    with pytest.raises(FileNotFoundError, match="missing.onnx"):
        main([str(tmp_path / "missing.onnx"), str(tmp_path / "teacher")])
    (tmp_path / "text.onnx").write_text("not an ONNX file")
    with pytest.raises(ValueError, match=r"text\.onnx is no ONNX file"):
        main([str(tmp_path / "text.onnx"), str(tmp_path / "teacher")])
    assert not (tmp_path / "teacher").exists()
