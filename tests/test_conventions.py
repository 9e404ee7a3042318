"""What the guides and tools of the ecosystem expect of a model."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForVideoClassification, Trainer, TrainingArguments

from flux_hf import FluxVideoProcessor, FluxViTForVideoClassification, FluxViTModel, default_checkpoint
from flux_hf.checkpoints import example_clips
from flux_hf.classification import classify
from flux_hf.training import FluxTrainer
from tests import tiny_training
from tests.older_names import with_older_names

PIXELS = torch.randn(6, 4, 3, 28, 28, generator=torch.Generator().manual_seed(0))
LABELS = [0, 1, 2, 0, 1, 2]


def rows() -> list[dict]:
    return [{"pixel_values_videos": clip, "labels": label} for clip, label in zip(PIXELS, LABELS, strict=True)]


def accuracy(prediction) -> dict[str, float]:
    """That of the guides."""
    return {"accuracy": float((np.argmax(prediction.predictions, axis=1) == prediction.label_ids).mean())}


def trainer(folder, *, model=None, compute_metrics=accuracy, **changes) -> Trainer:
    settings = {"use_cpu": True, "report_to": "none", "disable_tqdm": True, "save_strategy": "no", "max_steps": 2}
    return Trainer(
        model=model or tiny_training.model(),
        args=TrainingArguments(str(folder), **settings | changes),
        train_dataset=rows(),
        eval_dataset=rows(),
        compute_metrics=compute_metrics,
    )


def test_predictions_of_the_trainer_are_the_logits(tmp_path):
    run = trainer(tmp_path, per_device_eval_batch_size=4)
    prediction = run.predict(rows())
    with torch.no_grad():
        expected = run.model.eval()(PIXELS).logits
    np.testing.assert_allclose(prediction.predictions, expected.numpy(), atol=1e-5)
    right = (expected.argmax(-1) == torch.tensor(LABELS)).float().mean().item()
    assert prediction.metrics["test_accuracy"] == run.evaluate()["eval_accuracy"] == pytest.approx(right)


def test_metrics_of_the_guides_see_one_budget_at_a_time(tmp_path):
    """In FluxTrainer: under their own names those of the largest budget, and with the budget's number those of each."""
    clips = tiny_training.clips(6)
    run = tiny_training.trainer(tmp_path, evaluation=clips)
    logits = run.predict(clips).predictions
    guided = FluxTrainer(
        run.model, run.args, eval_dataset=clips, processing_class=run.processing_class, compute_metrics=accuracy
    )
    metrics = guided.evaluate()
    for place, budget in enumerate((16, 12, 8)):
        right = float((logits[:, place].argmax(-1) == np.array(clips.labels)).mean())
        assert metrics[f"eval_accuracy_{budget}"] == pytest.approx(right)
    assert metrics["eval_accuracy"] == metrics["eval_accuracy_16"]


def test_accumulated_batches_teach_what_one_batch_does(tmp_path):
    weights = []
    for batch, steps in ((6, 1), (3, 2)):
        torch.manual_seed(0)
        run = trainer(
            tmp_path, per_device_train_batch_size=batch, gradient_accumulation_steps=steps, max_steps=1,
            optim="sgd", learning_rate=0.1, max_grad_norm=0.0,
        )  # fmt: skip
        run.train()
        weights.append(torch.cat([parameter.detach().flatten() for parameter in run.model.parameters()]))
    torch.testing.assert_close(*weights, rtol=1e-4, atol=1e-6)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")
def test_dynamic_quantization_of_torch():
    model = tiny_training.model().eval()
    quantized = torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)
    assert not [module for module in quantized.modules() if type(module) is torch.nn.Linear]
    with torch.no_grad():
        expected, found = model(PIXELS, token_budget=12).logits, quantized(PIXELS, token_budget=12).logits
    assert (found - expected).abs().max() < 0.1 * expected.abs().max()


@pytest.mark.parametrize("label", ["moves_left", "recedes"])
def test_a_checkpoint_with_older_names_answers_as_it_did(label):
    """The one in the package has them: classifiers.0, attention.qkv."""
    assert "fluxvit.encoder.layers.0.attention.qkv.weight" in load_file(f"{default_checkpoint()}/model.safetensors")
    model = AutoModelForVideoClassification.from_pretrained(default_checkpoint()).eval()
    result = classify(example_clips()[label], model, FluxVideoProcessor.from_pretrained(default_checkpoint()), 256)
    assert result.labels[0][0] == label and result.labels[0][1] > 0.5


def test_weights_under_older_names_load_everywhere(tmp_path):
    model = tiny_training.model().eval()
    model.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    new, older = model.state_dict(), load_file(file)
    assert all(tensor.equal(older[name]) for name, tensor in with_older_names(new).items()) and len(older) < len(new)

    other = tiny_training.model()
    other.load_state_dict(load_file(file))  # as a run of the Trainer that goes on
    loaded, report = FluxViTForVideoClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    for found in (other, loaded):
        assert all(tensor.equal(new[name]) for name, tensor in found.state_dict().items())
    encoder = FluxViTModel.from_pretrained(tmp_path).state_dict()
    assert all(tensor.equal(new[f"fluxvit.{name}"]) for name, tensor in encoder.items())

    save_file(new, file, {"format": "pt"})
    state = FluxViTForVideoClassification.from_pretrained(tmp_path).state_dict()
    assert all(tensor.equal(new[name]) for name, tensor in state.items())
