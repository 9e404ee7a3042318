"""The adapter that docs/any_model.md writes, as it stands there, for the model of tests/intern_video.py."""

import copy
import pickle
import re
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from flux_hf import FluxVideoProcessor, disable_flux, enable_flux
from flux_hf.classification import classify
from flux_hf.data import load_video_dataset
from flux_hf.evaluation import evaluate
from flux_hf.training import FluxTrainer
from tests import intern_video, tiny_training, video_datasets
from tests.tiny_video_models import clips, drawn

PAGE = Path(__file__).parent.parent / "docs" / "any_model.md"
SECTION = PAGE.read_text(encoding="utf-8").partition("## An adapter for a model of your own")[2].partition("\n## ")[0]
ADAPTER, USE = re.findall(r"```python\n(.*?)```", SECTION, re.DOTALL)
BUDGET = 12


@pytest.fixture(autouse=True, scope="module")
def page():
    """What the lines of the page leave behind."""
    names = {"__name__": __name__}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "my_models", intern_video)
        exec(compile(ADAPTER, str(PAGE), "exec"), names)
    globals()["FluxInternVideo"] = names["FluxInternVideo"]  # where pickle looks for it
    return names


def model():
    return drawn(intern_video.InternVideo())


def same(found, expected) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_the_lines_of_the_page_that_use_it(page):
    exec(compile(USE, str(PAGE), "exec"), page)
    assert type(page["model"]) is intern_video.InternVideo


@torch.no_grad()
def test_few_tokens_go_through_its_blocks():
    stock, pixels = model(), clips(3, 4, 56, 56)
    output = enable_flux(copy.deepcopy(stock), token_budget=BUDGET)(pixels)
    tokens = stock.patch_embed(pixels.transpose(1, 2)).flatten(2).transpose(1, 2) + stock.pos_embed[:, 1:]
    kept = output.keep_mask.nonzero()[:, 1].view(3, BUDGET, 1).expand(-1, -1, 32)
    cls = (stock.cls_token + stock.pos_embed[:, :1]).expand(3, -1, -1)
    hidden = torch.cat([cls, tokens.gather(1, kept)], dim=1)
    for block in stock.blocks:
        hidden = block(hidden)
    same(output.logits, stock.head(stock.fc_norm(stock.clip_projector(hidden))))


def test_it_is_a_model_like_the_others():
    stock, pixels, labels = model(), clips(2, 4, 56, 56), torch.tensor([1, 3])
    flux = enable_flux(copy.deepcopy(stock), token_budgets=[40, BUDGET], heads_per_budget=True)
    assert {flux.parameter_layer(name) for name, _ in flux.named_parameters()} == {0, 1, 2, 3}
    assert flux.num_layers == 2
    several = flux(pixels, token_budgets=[40, BUDGET])
    same(several.logits[1], flux(pixels, token_budget=BUDGET).logits)
    output = flux(pixels, token_budget=BUDGET, labels=labels)
    torch.testing.assert_close(output.loss, torch.nn.functional.cross_entropy(output.logits, labels))
    for copied in (copy.deepcopy(flux), pickle.loads(pickle.dumps(flux))):
        same(copied(pixels, token_budget=BUDGET).logits, output.logits)
    flux.set_labels(["a", "b"], rows=[3, 0])
    torch.testing.assert_close(flux(pixels, token_budget=BUDGET).logits, output.logits[:, [3, 0]])
    flux.freeze_encoder()
    assert not any(parameter.requires_grad for parameter in flux.blocks.parameters())
    flux = disable_flux(flux)
    assert type(flux) is intern_video.InternVideo
    assert flux.state_dict().keys() == stock.state_dict().keys() and "_flux_settings" not in vars(flux)


def test_it_is_trained_evaluated_and_asked(tmp_path):
    """Its labels are numbered until a data set names them."""
    model = enable_flux(intern_video.InternVideo(num_classes=3), token_budgets=[40, BUDGET])
    assert model.label_names == ["LABEL_0", "LABEL_1", "LABEL_2"]
    processor = FluxVideoProcessor.for_model(model)
    settings = tiny_training.arguments(tmp_path)
    clips = tiny_training.clips()
    run = FluxTrainer(model, settings, train_dataset=clips, eval_dataset=clips, processing_class=processor)
    run.train()
    assert {"eval_top1_40", f"eval_top1_{BUDGET}"} <= run.evaluate().keys()
    assert model.label_names == tiny_training.NAMES
    run.save_model()
    again = intern_video.InternVideo(num_classes=3)
    again.load_state_dict(load_file(tmp_path / "model.safetensors"))
    again = enable_flux(again.eval(), token_budgets=[40, BUDGET])
    video = torch.zeros(6, 3, 56, 56, dtype=torch.uint8)
    found = classify(video, model.eval(), processor, BUDGET)
    assert {label for label, _ in found.labels} == set(tiny_training.NAMES)
    expected = [score for _, score in found.labels]
    assert [score for _, score in classify(video, again, processor, BUDGET).labels] == expected
    assert 0 < found.gmacs < classify(video, model, processor, 40).gmacs

    videos = load_video_dataset(video_datasets.videofolder(tmp_path / "videos", {"test": 3}), "test")
    again.rename_labels(video_datasets.CLASSES)
    result = evaluate(videos, again, processor, [40, BUDGET])
    assert result["label_names"] == video_datasets.CLASSES and result["num_videos"] == 3


def test_a_configuration_of_its_own_stays():
    own = model()
    own.config = settings = {"width": 32}
    assert enable_flux(own, token_budget=BUDGET).config is settings
    assert own(clips(1, 4, 56, 56)).keep_mask.sum() == BUDGET
    assert disable_flux(own).config is settings
