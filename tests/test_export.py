"""`flux-hf export`: files that compute what PyTorch computes, ties included, for any number of clips, a processor that
fits them, and the ONNX file in a model's place."""

import json
import sys

import numpy as np
import onnxruntime
import pytest
import torch
from transformers import AutoVideoProcessor

from flux_hf import FluxVideoProcessor, FluxViTConfig, FluxViTForVideoClassification
from flux_hf import export as export_module
from flux_hf.runtime import OnnxClassifier
from flux_hf.scripts.export import main

BUDGET = 20


@pytest.fixture(scope="module")
def exported(tiny_checkpoint, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    main([str(tiny_checkpoint), str(folder), "--token_budget", str(BUDGET), "--int8", "true"])
    return folder


@pytest.fixture(scope="module")
def model(tiny_checkpoint):
    return FluxViTForVideoClassification.from_pretrained(tiny_checkpoint).eval()


def session(path):
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def clip_shape(folder) -> tuple[int, ...]:
    return tuple(json.loads((folder / "export.json").read_text())["clip_shape"])


def still_clip(shape) -> torch.Tensor:
    """No motion: the same noise in every frame, so that all scores of the selector tie at zero."""
    frame = torch.randn(shape[0], 1, *shape[2:], generator=torch.Generator().manual_seed(1))
    return frame.expand(shape).contiguous()


def clips(shape) -> dict[str, torch.Tensor]:
    moving = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    half = still_clip(shape)
    half[:, : shape[1] // 2] = moving[:, : shape[1] // 2]
    return {"moving": moving, "still": still_clip(shape), "half still": half, "constant": torch.full(shape, 0.3)}


@pytest.mark.long
def test_files_and_report(exported, tiny_checkpoint):
    names = {path.name for path in exported.iterdir()}
    assert names >= {"model.onnx", "model.pt2", "model_int8.onnx", "config.json", "video_preprocessor_config.json"}
    report = json.loads((exported / "export.json").read_text())
    assert report["token_budget"] == BUDGET
    assert report["labels"] == [f"label {index}" for index in range(4)]
    assert report["runs"].keys() == {"pytorch", "model.pt2", "model.onnx", "model_int8.onnx"}
    assert all(run["milliseconds"] > 0 for run in report["runs"].values())
    assert report["runs"]["pytorch"]["difference"] == 0
    assert 0 < report["runs"]["model_int8.onnx"]["difference"] < 0.2
    assert (exported / "model_int8.onnx").stat().st_size < (exported / "model.onnx").stat().st_size


@pytest.mark.long
@pytest.mark.parametrize("kind", ["moving", "still", "half still", "constant"])
def test_onnx_and_torch_export_equal_pytorch(exported, model, kind):
    """Also where tokens tie: the earlier position wins everywhere."""
    clip = clips((1, *clip_shape(exported)))[kind]
    with torch.no_grad():
        expected = model(clip, token_budget=BUDGET)
    assert int(expected.keep_mask.sum()) == BUDGET
    (found,) = session(exported / "model.onnx").run(["logits"], {"pixel_values_videos": clip.numpy()})
    np.testing.assert_allclose(found, expected.logits.numpy(), atol=1e-5, rtol=1e-4)
    program = torch.export.load(exported / "model.pt2").module()
    torch.testing.assert_close(program(clip), expected.logits, atol=1e-5, rtol=1e-4)


def check_batches(folder, model, budget: int) -> None:
    """Batches of 1, 2 and 5, in which one clip has no motion, in both files."""
    classifier, program = OnnxClassifier(folder), torch.export.load(folder / "model.pt2").module()
    assert classifier.token_budget == budget and classifier.clip_shape == clip_shape(folder)
    for batch in (1, 2, 5):
        pixels = torch.randn(batch, *classifier.clip_shape, generator=torch.Generator().manual_seed(batch))
        pixels[-1] = pixels[-1, :1]
        with torch.no_grad():
            expected = model.eval()(pixels, token_budget=budget).logits
        torch.testing.assert_close(classifier(pixels, token_budget=budget).logits, expected, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(program(pixels), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.long
def test_batches_have_any_size(exported, model):
    check_batches(exported, model, BUDGET)


def test_an_onnx_file_stands_in_for_the_model(exported, model, tmp_path):
    classifier = OnnxClassifier(exported)
    assert classifier.label_names == model.label_names
    pixels = torch.randn(2, *classifier.clip_shape)
    with torch.no_grad():
        expected = model(pixels, token_budget=BUDGET).logits
    torch.testing.assert_close(classifier(pixels).logits, expected, atol=1e-5, rtol=1e-4)
    coarse = OnnxClassifier(exported, int8=True)(pixels).logits
    assert 0 < (coarse - expected).abs().max() < 0.2 * expected.abs().max()
    with pytest.raises(ValueError, match=f"^token_budget: the file was exported for {BUDGET} tokens, got 30$"):
        classifier(pixels, token_budget=30)
    for wrong in (pixels[0], pixels[:, 1:], pixels[..., :28]):
        with pytest.raises(ValueError, match="^pixel_values_videos must be .*for which the file was exported, got"):
            classifier(wrong)
    with pytest.raises(ValueError, match=f"^{tmp_path} holds no export.json: flux-hf export CHECKPOINT .* writes it$"):
        OnnxClassifier(tmp_path)
    (tmp_path / "export.json").touch()
    with pytest.raises(ValueError, match="holds no model_int8.onnx: .* --int8 true writes it$"):
        OnnxClassifier(tmp_path, int8=True)


def test_a_damaged_export_is_named(tmp_path):
    report = {"token_budget": 8, "clip_shape": [2, 3, 32, 32], "labels": ["a"]}
    (tmp_path / "export.json").write_text(json.dumps(report))
    (tmp_path / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(ValueError, match=r"model\.onnx cannot be loaded"):
        OnnxClassifier(tmp_path)
    for damage in ("{}", "[]", "{"):
        (tmp_path / "export.json").write_text(damage)
        with pytest.raises(ValueError, match=r"export\.json is damaged"):
            OnnxClassifier(tmp_path)


@pytest.mark.slow
def test_a_model_of_size_s(tmp_path):
    """Random weights at 512 tokens."""
    torch.manual_seed(0)
    config = FluxViTConfig.from_json_file("scripts/configs/models/fluxvit_small.json")
    FluxViTForVideoClassification(config).save_pretrained(tmp_path / "checkpoint")
    FluxVideoProcessor().save_pretrained(tmp_path / "checkpoint")
    main([str(tmp_path / "checkpoint"), str(tmp_path / "out"), "--token_budget", "512"])
    check_batches(tmp_path / "out", FluxViTForVideoClassification.from_pretrained(tmp_path / "checkpoint"), 512)


def test_tied_tokens_matter_to_the_check(model):
    """With other tokens of a still clip the logits are others: the comparison above can fail."""
    clip = still_clip((1, 6, 3, 56, 56))
    with torch.no_grad():
        chosen = model(clip, token_budget=BUDGET)
        other = model(clip, keep_mask=chosen.keep_mask.flip(1))
    assert not torch.allclose(chosen.logits, other.logits, atol=1e-3)


def test_the_saved_processor_makes_the_input(exported, tiny_checkpoint, model, make_video):
    shape = (1, *clip_shape(exported))
    processor = AutoVideoProcessor.from_pretrained(exported)
    original = AutoVideoProcessor.from_pretrained(tiny_checkpoint)
    for name, frames in (("long.mp4", 40), ("short.mp4", 2)):
        clip = make_video(name, frames=frames, width=120)
        inputs = processor(clip, return_tensors="pt")
        assert tuple(inputs["pixel_values_videos"].shape) == shape and inputs["token_budget"] == BUDGET
        expected = original(clip, token_budget=BUDGET, return_tensors="pt")
        assert torch.equal(inputs["pixel_values_videos"], expected["pixel_values_videos"])
        (found,) = session(exported / "model.onnx").run(
            ["logits"], {"pixel_values_videos": inputs["pixel_values_videos"].numpy()}
        )
        with torch.no_grad():
            np.testing.assert_allclose(found, model(**expected).logits.numpy(), atol=1e-5, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings, size",
    [
        ({"size": {"height": 42, "width": 70}}, [42, 70]),
        ({"size": 64, "crop_size": {"height": 42, "width": 56}, "fit_source": True}, [42, 56]),
    ],
)
def test_frames_that_are_no_squares(tiny_checkpoint, tmp_path, make_video, settings, size):
    FluxViTForVideoClassification.from_pretrained(tiny_checkpoint).save_pretrained(tmp_path / "checkpoint")
    AutoVideoProcessor.from_pretrained(tiny_checkpoint, **settings).save_pretrained(tmp_path / "checkpoint")
    main([str(tmp_path / "checkpoint"), str(tmp_path / "out"), "--token_budget", str(BUDGET)])
    frames = AutoVideoProcessor.from_pretrained(tiny_checkpoint).choose_grid(BUDGET).frames
    shape = clip_shape(tmp_path / "out")
    assert shape == (frames, 3, *size)
    check_batches(tmp_path / "out", FluxViTForVideoClassification.from_pretrained(tiny_checkpoint), BUDGET)
    for name, count in (("long.mp4", 40), ("short.mp4", 2)):
        inputs = AutoVideoProcessor.from_pretrained(tmp_path / "out")(
            make_video(name, frames=count), return_tensors="pt"
        )
        assert tuple(inputs["pixel_values_videos"].shape) == (1, *shape)


@pytest.mark.slow
def test_an_export_that_differs_is_an_error(tiny_checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(export_module, "TOLERANCE", -1.0)
    with pytest.raises(RuntimeError, match="differs from PyTorch by"):
        main([str(tiny_checkpoint), str(tmp_path / "out")])


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["dynamic", "uniform"])
def test_other_rules_are_exported(tiny_checkpoint, tmp_path, rule):
    """The command compares the files with PyTorch, with motion and without."""
    model = FluxViTForVideoClassification.from_pretrained(tiny_checkpoint, token_selection=rule)
    model.save_pretrained(tmp_path / "checkpoint")
    AutoVideoProcessor.from_pretrained(tiny_checkpoint).save_pretrained(tmp_path / "checkpoint")
    main([str(tmp_path / "checkpoint"), str(tmp_path / "out"), "--token_budget", str(BUDGET)])
    assert json.loads((tmp_path / "out" / "config.json").read_text())["token_selection"] == rule


def test_rules_that_draw_tokens_are_not_exported(tiny_checkpoint, tmp_path):
    model = FluxViTForVideoClassification.from_pretrained(tiny_checkpoint, token_selection="tube")
    model.save_pretrained(tmp_path / "checkpoint")
    AutoVideoProcessor.from_pretrained(tiny_checkpoint).save_pretrained(tmp_path / "checkpoint")
    with pytest.raises(ValueError, match="^--checkpoint .*: its token_selection 'tube' draws tokens at random"):
        main([str(tmp_path / "checkpoint"), str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_options_are_checked(tiny_checkpoint, tmp_path):
    with pytest.raises(ValueError, match="^--token_budget must be at least 1, got 0"):
        main([str(tiny_checkpoint), str(tmp_path / "out"), "--token_budget", "0"])


def test_the_checkpoint_is_looked_for_first(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ValueError, match="^--checkpoint ./nope: there is no folder ./nope here$"):
        main(["./nope", str(tmp_path / "out")])
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ImportError, match="pip install onnx onnxruntime onnxscript$"):
        main([str(tmp_path), str(tmp_path / "out")])
