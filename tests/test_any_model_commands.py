"""Commands and pipelines with video transformers that are no FluxViT: stock checkpoints, and those saved with selection
switched on."""

import json
import logging
import shutil
import sys

import pytest
import torch
from huggingface_hub import ModelCard
from transformers import (
    AutoModelForVideoClassification,
    AutoVideoProcessor,
    VideoMAEImageProcessor,
    ViTConfig,
    VJEPA2VideoProcessor,
    pipeline,
)

from flux_hf import FluxVideoClassificationPipeline, FluxVideoProcessor, UnsupportedModelError
from flux_hf.classification import classify
from flux_hf.cli import main as command
from flux_hf.costs import view_gmacs
from flux_hf.drawing import dimmed_frames
from flux_hf.export import load_onnx
from flux_hf.hub import build_model_card
from flux_hf.hub.model_card import Base
from flux_hf.hub.push import check_saved
from flux_hf.plugin import enable_flux, load_video_classifier, load_video_processor
from flux_hf.processing.grid_fluxvit import Grid
from flux_hf.scripts.classify import main as classify_command
from flux_hf.scripts.evaluate_checkpoint import main as evaluate_command
from flux_hf.scripts.export import main as export_command
from flux_hf.scripts.optimize_tokens import main as optimize_command
from flux_hf.token_optimization.candidates import default_axes
from tests import tiny_video_models
from tests.stock_models import videomae, vjepa2
from tests.video_files import encode_video

LABELS = {0: "a", 1: "b"}
FAMILIES = ("videomae", "vjepa2")
NATIVE = (8, 32)  # 4 x 4 x 4 tokens


def stock(family: str):
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "id2label": LABELS, "label2id": {"a": 0, "b": 1}}
    return videomae(**sizes, num_frames=8) if family == "videomae" else vjepa2(**sizes, frames_per_clip=8)


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def stock_checkpoint(family, tmp_path_factory):
    """As Transformers saves it, with the processor of the family."""
    folder = tmp_path_factory.mktemp(family)
    torch.manual_seed(0)
    stock(family).save_pretrained(folder)
    if family == "videomae":
        VideoMAEImageProcessor(size={"shortest_edge": 32}, crop_size=32).save_pretrained(folder)
    else:
        VJEPA2VideoProcessor(crop_size=32).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def flux_checkpoint(stock_checkpoint, tmp_path_factory):
    """Saved with selection switched on, and with our processor."""
    folder = tmp_path_factory.mktemp("flux")
    model = AutoModelForVideoClassification.from_pretrained(stock_checkpoint)
    enable_flux(model, 32, token_budgets=[32, 16])
    FluxVideoProcessor.for_model(model).save_pretrained(folder)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    path.write_bytes(encode_video(20))
    return path


@pytest.fixture(scope="module")
def dataset_dir(tmp_path_factory):
    root = tmp_path_factory.mktemp("videos")
    for split in ("validation", "test"):
        for number in range(4):
            folder = root / split / LABELS[number % 2]
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{split}_{number}.mp4").write_bytes(encode_video(8 + number, height=40, width=56))
    return root


def loaded(folder):
    model = load_video_classifier(folder)
    return model, load_video_processor(folder, model)


def scores(model, inputs) -> dict[str, float]:
    with torch.no_grad():
        probabilities = model(**inputs).logits[0].softmax(-1).tolist()
    return {LABELS[index]: pytest.approx(score, abs=1e-5) for index, score in enumerate(probabilities)}


def test_classify_a_stock_checkpoint(stock_checkpoint, clip, tmp_path, capsys):
    picture = tmp_path / "picture.png"
    classify_command(
        [str(clip), "--checkpoint", str(stock_checkpoint), "--token_budget", "64", "16", "--show", str(picture)]
    )
    first, second = (line for line in capsys.readouterr().out.splitlines() if "budget" in line)
    assert "grid 8 x 32 x 32, kept 64 of 64 tokens, " in first and "kept 16 of 64 tokens, " in second
    assert picture.is_file()


def test_models_that_cannot_are_refused_by_the_name_of_the_checkpoint(tmp_path, clip):
    ViTConfig(hidden_size=8).save_pretrained(tmp_path / "image")
    with pytest.raises(ValueError, match=r"^--checkpoint .*image: a model of the type vit: .*images, one at a time"):
        classify_command([str(clip), "--checkpoint", str(tmp_path / "image")])
    tiny_video_models.classifier("timesformer", attention_type="divided_space_time").save_pretrained(tmp_path / "apart")
    with pytest.raises(UnsupportedModelError, match=r"apart: Timesformer.*divided_space_time"):
        load_video_classifier(tmp_path / "apart")


@pytest.mark.parametrize("family", ["videomae"], indirect=True)
def test_classify_without_budget_takes_those_of_the_model(flux_checkpoint, clip, capsys):
    classify_command([str(clip), "--checkpoint", str(flux_checkpoint)])
    lines = [line for line in capsys.readouterr().out.splitlines() if "budget" in line]
    assert [line.split(":")[0].split()[-1] for line in lines] == ["32", "16"]


def test_all_tokens_answer_as_the_stock_model(stock_checkpoint, clip):
    model, processor = loaded(stock_checkpoint)
    result = classify(clip, model, processor, 64, top_k=2)
    plain = AutoModelForVideoClassification.from_pretrained(stock_checkpoint)
    with torch.no_grad():
        expected = plain(result.pixels[None]).logits[0].softmax(-1)
    assert dict(result.labels) == {LABELS[i]: pytest.approx(float(p), abs=1e-5) for i, p in enumerate(expected)}
    assert (result.head_budget, result.keep_mask) == (None, None)


@pytest.mark.parametrize("family", ["videomae"], indirect=True)
def test_what_is_dimmed_is_what_was_dropped(stock_checkpoint, clip):
    model, processor = loaded(stock_checkpoint)
    result = classify(clip, model, processor, 20)
    drawn, whole = (dimmed_frames(each, processor) for each in (result, classify(clip, model, processor, 64)))
    same = (drawn == whole).all(-1).reshape(8, 4, 8, 4, 8).all((2, 4))  # frame, row, column
    assert (same == result.keep_mask.numpy().reshape(4, 1, 4, 4).repeat(2, 1).reshape(8, 4, 4)).all()


def hand_counted(kept: int, tokens: int) -> int:
    """VideoMAE: two layers of width 24 with MLPs of 48, patches of 2 x 8 x 8 x 3 numbers, two classes."""
    width, mlp = 24, 48
    layer = kept * (4 * width**2 + 2 * width * mlp) + 2 * width * kept**2
    return 2 * 8 * 8 * 3 * width * tokens + 2 * layer + 2 * width


def test_macs_of_a_forward_equal_a_count_by_hand(stock_checkpoint, family):
    model = load_video_classifier(stock_checkpoint)
    if family == "videomae":
        for budget in (64, 16):
            assert view_gmacs(model, budget, Grid(*NATIVE)) == hand_counted(budget, 64) / 1e9
    small, large = (view_gmacs(model, budget, Grid(*NATIVE)) for budget in (16, 64))
    assert 0 < small < large == view_gmacs(model, 1000, Grid(*NATIVE))
    assert 0 < view_gmacs(model, 16, Grid(4, (16, 40))) < small
    assert all(parameter.device.type == "cpu" for parameter in model.parameters())


@pytest.fixture
def depends_on_pixels(stock_checkpoint, monkeypatch):
    """A model whose forward takes another way where the pixels say so."""
    model = load_video_classifier(stock_checkpoint)
    forward = type(model).forward
    monkeypatch.setattr(
        type(model),
        "forward",
        lambda self, pixels, **options: forward(self, pixels if pixels.mean() > 0 else -pixels, **options),
    )
    return model


@pytest.mark.parametrize("family", ["videomae"], indirect=True)
def test_a_forward_that_needs_numbers_is_refused(depends_on_pixels):
    with pytest.raises(ValueError, match="^the multiply-accumulates of Flux.* does not run on torch's meta"):
        view_gmacs(depends_on_pixels, 17, Grid(*NATIVE))


@pytest.mark.parametrize("family", ["vjepa2"], indirect=True)
def test_evaluate_a_stock_checkpoint(stock_checkpoint, dataset_dir, tmp_path):
    output = tmp_path / "result.json"
    options = ["--dataset", str(dataset_dir), "--checkpoint", str(stock_checkpoint), "--output", str(output)]
    evaluate_command([*options, "--token_budgets", "64", "16"])
    result = json.loads(output.read_text())
    model = load_video_classifier(stock_checkpoint)
    assert result["num_videos"] == 4 and result["label_names"] == ["a", "b"]
    for budget, figures in result["budgets"].items():
        assert tuple(figures["grid"]) == NATIVE
        assert figures["gmacs"] == view_gmacs(model, int(budget), Grid(*NATIVE))


@pytest.mark.long
@pytest.mark.parametrize("family", ["videomae"], indirect=True)
def test_grids_that_were_written_count(flux_checkpoint, dataset_dir, tmp_path, monkeypatch, clip):
    """Also in the stock pipeline, which asks for the number of frames in the model's configuration."""
    folder = shutil.copytree(flux_checkpoint, tmp_path / "checkpoint")
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # no plots, which take longest
    monkeypatch.setattr("flux_hf.token_optimization.report.new_grids", lambda result: {32: (4, 40), 16: (8, 32)})
    options = ["--dataset", str(dataset_dir), "--checkpoint", str(folder), "--output_dir", str(tmp_path / "out")]
    optimize_command([*options, "--frames", "4", "8", "--sizes", "32", "40", "--rounds", "1", "--write"])
    before = FluxVideoProcessor.from_pretrained(tmp_path / "out" / "processor_before")
    assert {tuple(before.choose_grid(budget)) for budget in (32, 16)} == {NATIVE}
    processor = AutoVideoProcessor.from_pretrained(folder)
    assert [tuple(processor.choose_grid(budget)) for budget in (32, 16)] == [(4, 40), (8, 32)]
    model = AutoModelForVideoClassification.from_pretrained(folder)
    expected = scores(model, processor(clip, return_tensors="pt"))
    assert processor(clip, return_tensors="pt")["pixel_values_videos"].shape == (1, 4, 3, 40, 40)
    for kind in (None, FluxVideoClassificationPipeline):
        answers = pipeline("video-classification", model=str(folder), pipeline_class=kind)(str(clip))
        assert {answer["label"]: answer["score"] for answer in answers} == expected


@pytest.mark.parametrize("family", ["videomae"], indirect=True)
def test_stock_weights_are_said_to_know_one_grid(stock_checkpoint, flux_checkpoint, tmp_path, caplog):
    folder = shutil.copytree(stock_checkpoint, tmp_path / "checkpoint")
    with caplog.at_level(logging.WARNING, "flux_hf"):
        model, processor = loaded(folder)
        assert ["switched on" in record.message for record in caplog.records] == [True]
        FluxVideoProcessor.for_model(model, grids={32: (4, 40)}).save_pretrained(folder)
        loaded(flux_checkpoint)
        caplog.clear()
        load_video_processor(folder, model)
    assert "stock weights know the grid 8 x 32 x 32 alone, clips come out on" in caplog.text


def test_grids_default_to_shares_of_the_native_one(flux_checkpoint):
    frames, sizes = default_axes(load_video_classifier(flux_checkpoint))
    assert (frames, sizes) == ([4, 8, 12, 16], [16, 24, 32, 40])


def test_pipelines_of_a_saved_model(flux_checkpoint, clip):
    model, processor = loaded(flux_checkpoint)
    short = encode_video(3)
    for kind in (None, FluxVideoClassificationPipeline):
        classifier = pipeline("video-classification", model=str(flux_checkpoint), pipeline_class=kind)
        for video in (str(clip), short):
            answers = classifier(video)
            inputs = processor(video, return_tensors="pt")
            assert {answer["label"]: answer["score"] for answer in answers} == scores(model, inputs)
    views = classifier(str(clip), num_clips=2, num_crops=2, token_budget=16)
    assert sum(answer["score"] for answer in views) == pytest.approx(1, abs=1e-5)
    for frames in (4, 12):
        answers = classifier(str(clip), num_frames=frames)
        inputs = processor(clip, num_frames=frames, return_tensors="pt")
        assert inputs["pixel_values_videos"].shape[1] == frames
        assert {answer["label"]: answer["score"] for answer in answers} == scores(model, inputs)


def test_the_card_of_a_saved_model(flux_checkpoint, family, clip):
    model, processor = loaded(flux_checkpoint)
    card = build_model_card(flux_checkpoint, "me/mine", model, processor, base=Base("them/theirs", "cc-by-nc-4.0"))
    assert (card.data.license, card.data.base_model) == ("cc-by-nc-4.0", "them/theirs")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in card.text.splitlines() if line[:2] == "| "]
    gmacs = {budget: f"{view_gmacs(model, budget, Grid(*NATIVE)):.3g}" for budget in (32, 16)}
    assert all([str(b), "8 x 32 x 32", f"{b} of 64", gmacs[b]] in rows for b in (32, 16))
    assert ["patch", "8 x 8 pixels of 2 frames"] in rows and ["token budgets", "32, 16"] in rows
    assert {"videomae": "A VideoMAE ", "vjepa2": "A VJEPA2 "}[family] in card.text and "MIT" not in card.text
    blocks = card.text.split("```python")[1:]
    assert len(blocks) == 2 and "trust_remote_code=True" in blocks[1]
    code = blocks[0].split("```")[0]
    exec(code.replace("me/mine", str(flux_checkpoint)).replace("video.mp4", str(clip)), {})


@pytest.mark.parametrize("family", ["videomae"], indirect=True)
def test_an_unknown_base_gives_no_licence(flux_checkpoint):
    card = build_model_card(flux_checkpoint, "me/mine", *loaded(flux_checkpoint))
    assert not {"license", "base_model"} & card.data.to_dict().keys() and "MIT" not in card.text
    assert ModelCard(str(card)).data.to_dict()["tags"][0].startswith("flux_")


@pytest.mark.parametrize("family", ["videomae"], indirect=True)
def test_a_stock_checkpoint_is_not_pushed_as_one_with_selection(stock_checkpoint, flux_checkpoint, tmp_path):
    model, processor = loaded(stock_checkpoint)
    with pytest.raises(ValueError, match="without token selection: call enable_flux on the model and save it"):
        check_saved(stock_checkpoint, model, processor)
    folder = shutil.copytree(flux_checkpoint, tmp_path / "checkpoint")
    check_saved(folder, *loaded(folder))
    VJEPA2VideoProcessor(crop_size=32).save_pretrained(folder)
    with pytest.raises(ValueError, match=r"holds a VJEPA2VideoProcessor: save FluxVideoProcessor\.for_model"):
        check_saved(folder, *loaded(folder))


@pytest.mark.slow
def test_exports_equal_pytorch(stock_checkpoint, tmp_path):
    """With the selector inside, also where all tokens tie; on another grid than the native one."""
    folder, output = shutil.copytree(stock_checkpoint, tmp_path / "checkpoint"), tmp_path / "out"
    model = load_video_classifier(stock_checkpoint)
    FluxVideoProcessor.for_model(model, grids={20: (4, 40)}).save_pretrained(folder)
    export_command([str(folder), str(output), "--token_budget", "20"])
    report = json.loads((output / "export.json").read_text())
    assert report["clip_shape"] == [4, 3, 40, 40]
    video = torch.randn(3, 4, 3, 40, 40, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        expected = model(video, token_budget=20).logits
        assert not torch.allclose(expected, model(video).logits, atol=1e-4)
    found = torch.export.load(output / "model.pt2").module()(video)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    found = torch.from_numpy(load_onnx(output / "model.onnx")(video))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["videomae"], indirect=True)
def test_a_model_that_cannot_be_exported_is_refused(depends_on_pixels, stock_checkpoint, tmp_path):
    with pytest.raises(ValueError, match="^Flux.*ForVideoClassification cannot be exported: torch.export says: "):
        export_command([str(stock_checkpoint), str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_checkpoints_that_do_not_fit_give_one_line(tmp_path, clip, flux_checkpoint):
    folders = {name: tmp_path / name for name in ("empty", "image", "types")}
    folders["empty"].mkdir()
    ViTConfig().save_pretrained(folders["image"])
    shutil.copytree(flux_checkpoint, folders["types"])
    config = json.loads((folders["types"] / "config.json").read_text())
    (folders["types"] / "config.json").write_text(json.dumps(config | {"token_budgets": "many"}))
    for name, reason in (("empty", "config.json"), ("image", "images, one at a time"), ("types", "token_budgets")):
        with pytest.raises(SystemExit, match=f"error: --checkpoint {folders[name]}: .*{reason}"):
            command(["classify", str(clip), "--checkpoint", str(folders[name])])
