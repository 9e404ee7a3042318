"""A checkpoint offers what was trained: whatever trained it, every head that it has answers."""

import pytest
import torch
from transformers import Trainer, TrainingArguments

from flux_hf import FluxVideoProcessor, FluxViTForPreTraining, FluxViTForVideoClassification, FluxViTModel
from flux_hf.training import starting_model
from flux_hf.training.budgets import fit_processor, set_budgets
from flux_hf.training.starting_model import ModelChanges
from tests import tiny_training

BUDGETS = [16, 12, 8]
COLOURS = torch.tensor([-1.5, 0.0, 1.5])


def rows(count: int = 12) -> list[dict]:
    """Clips whose colour tells the label."""
    labels = [number % 3 for number in range(count)]
    generator = torch.Generator().manual_seed(0)
    noise = 0.1 * torch.randn(count, 4, 3, 28, 28, generator=generator)
    return [
        {"pixel_values_videos": clip + COLOURS[label], "labels": label}
        for clip, label in zip(noise, labels, strict=True)
    ]


def plain_arguments(folder, **changes) -> TrainingArguments:
    settings = {
        "output_dir": str(folder),
        "use_cpu": True,
        "report_to": "none",
        "disable_tqdm": True,
        "per_device_train_batch_size": 6,
        "learning_rate": 3e-3,
        "lr_scheduler_type": "constant",
        "max_steps": 20,
        "save_strategy": "no",
    }
    return TrainingArguments(**settings | changes)


@torch.no_grad()
def right_at(model, budget: int) -> float:
    clips = rows()
    pixels = torch.stack([row["pixel_values_videos"] for row in clips])
    answers = model.eval()(pixels, token_budget=budget).logits.argmax(-1)
    return float((answers == torch.tensor([row["labels"] for row in clips])).float().mean())


class WeightedLoss(Trainer):
    """As the documentation of transformers shows it: the model's own loss is not used."""

    def compute_loss(self, model, inputs, return_outputs=False, **_):
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        loss = torch.nn.functional.cross_entropy(outputs.logits, labels, weight=torch.tensor([1.0, 2.0, 1.0]))
        return (loss, outputs) if return_outputs else loss


def with_budget(clips: list[dict]) -> dict:
    return {
        "pixel_values_videos": torch.stack([clip["pixel_values_videos"] for clip in clips]),
        "labels": torch.tensor([clip["labels"] for clip in clips]),
        "token_budget": 12,
    }


@pytest.mark.long
@pytest.mark.parametrize(
    ("trainer_class", "changes", "collate"),
    [
        (Trainer, {}, None),
        (Trainer, {}, with_budget),
        (Trainer, {"label_smoothing_factor": 0.1}, None),
        (WeightedLoss, {}, None),
    ],
)
def test_what_the_plain_trainer_saves_answers_at_every_budget(tmp_path, trainer_class, changes, collate):
    torch.manual_seed(0)
    model = tiny_training.model(token_budget=16)
    trainer = trainer_class(
        model=model, args=plain_arguments(tmp_path, **changes), train_dataset=rows(), data_collator=collate
    )
    trainer.train()
    trainer.save_model()
    saved = FluxViTForVideoClassification.from_pretrained(tmp_path)
    assert saved.config.head_token_budgets == BUDGETS
    assert min(right_at(saved, budget) for budget in BUDGETS) > 0.9


def test_all_heads_learn_from_labels_and_the_loss_is_that_of_the_logits():
    model = tiny_training.model().train()
    pixels, labels = torch.randn(3, 4, 3, 28, 28), torch.tensor([0, 1, 2])
    output = model(pixels, token_budget=12, labels=labels)
    output.loss.backward()
    torch.testing.assert_close(output.loss, torch.nn.functional.cross_entropy(output.logits, labels))
    encoder = [parameter.grad.clone() for parameter in model.fluxvit.encoder.parameters()]
    parts = (*model.fluxvit.poolers, *model.classifier.heads)
    assert all(parameter.grad is not None for part in parts for parameter in part.parameters())

    model.zero_grad()
    model(pixels, token_budget=12, labels=labels, head_index=1).loss.backward()
    for before, parameter in zip(encoder, model.fluxvit.encoder.parameters(), strict=True):
        torch.testing.assert_close(before, parameter.grad)
    grads = [head.weight.grad for head in model.classifier.heads]
    assert grads[1].abs().sum() > 0 and not any(grad is not None and grad.any() for grad in (grads[0], grads[2]))


@pytest.mark.long
@pytest.mark.parametrize(
    ("budgets", "trained", "copied"), [([64, 20, 16], [0, 2], [0, 2, 2]), ([24, 16, 8], [0, 2], [0, 0, 2])]
)
@pytest.mark.parametrize("kind", [FluxViTForVideoClassification, FluxViTForPreTraining, FluxViTModel])
def test_idle_heads_are_saved_as_copies_of_the_nearest_trained_one(tmp_path, kind, budgets, trained, copied):
    model = kind(tiny_training.model(head_token_budgets=budgets).config)
    poolers = model.poolers if kind is FluxViTModel else model.fluxvit.poolers
    heads = model.classifier.heads if kind is FluxViTForVideoClassification else [pooler.output for pooler in poolers]
    with torch.no_grad():
        for head in trained:
            heads[head].bias.fill_(0.5 + head)
    model.save_pretrained(tmp_path)
    saved = kind.from_pretrained(tmp_path).state_dict()
    parts = [part.format(head) for head in range(3) for part in model._parts_of_head]
    sources = [part.format(source) for source in copied for part in model._parts_of_head]
    state = model.state_dict()
    for part, source in zip(parts, sources, strict=True):
        names = [name.removeprefix(source) for name in state if name.startswith(source)]
        assert names and all(saved[part + name].equal(state[source + name]) for name in names)


def test_a_model_that_nothing_trained_is_saved_as_it_is(tmp_path):
    model = tiny_training.model()
    model.save_pretrained(tmp_path)
    saved = FluxViTForVideoClassification.from_pretrained(tmp_path).state_dict()
    assert all(tensor.equal(saved[name]) for name, tensor in model.state_dict().items())


@pytest.mark.long
@pytest.mark.parametrize("budgets", [[12], [16, 8], [20, 16, 12, 8], [11]])
def test_a_run_saves_the_heads_and_grids_of_the_budgets_that_it_trains(tmp_path, budgets, warnings_of_training):
    trainer = tiny_training.trainer(tmp_path, token_budgets=budgets, changes={"token_budget": 16})
    trainer.train()
    trainer.save_model()
    saved = FluxViTForVideoClassification.from_pretrained(tmp_path)
    processor = FluxVideoProcessor.from_pretrained(tmp_path)
    assert saved.config.head_token_budgets == budgets
    assert saved.config.token_budget == (16 if 16 in budgets else max(budgets))
    assert all(saved.classifier.heads[head].bias.any() for head in range(len(budgets)))
    assert set(processor.grids) == set(budgets)
    assert [text for text in warnings_of_training() if f"heads for {', '.join(map(str, budgets))} tokens" in text]


def test_heads_start_as_those_that_answered_at_their_budgets():
    model = tiny_training.model()
    before = [pooler.output.weight.clone() for pooler in model.fluxvit.poolers]
    answers = [head.weight.clone() for head in model.classifier.heads]
    decoders = [decoder.projection.weight.clone() for decoder in model.alignment_decoders]
    set_budgets(model, [20, 11, 9])
    for head, at in enumerate([0, 1, 2]):
        assert model.fluxvit.poolers[head].output.weight.equal(before[at])
        assert model.classifier.heads[head].weight.equal(answers[at])
    for decoder, expected in zip(model.alignment_decoders, decoders, strict=True):
        assert decoder.projection.weight.equal(expected)
    assert model.config.head_token_budgets == model.fluxvit.config.head_token_budgets == [20, 11, 9]
    output = model(torch.randn(1, 4, 3, 28, 28), token_budgets=[16, 11, 9])
    assert len(output.aligned) == 2
    set_budgets(model, [20, 19, 18])
    assert all(pooler.output.weight.equal(before[0]) for pooler in model.fluxvit.poolers)
    model(torch.randn(1, 4, 3, 28, 28), token_budgets=[20, 19, 18])


def test_grids_of_heads_that_went_go():
    processor = FluxVideoProcessor(grids={32: (6, 42), 16: (6, 42), 12: (4, 42), 8: (4, 28)}, token_budget=16)
    fitted = fit_processor(processor, [16, 12, 8], [12, 4])
    assert set(fitted.grids) == {32, 12, 4}  # 32 never had a head
    assert fitted.token_budget == 12 and fitted.grids[12] == (4, 42)
    assert fitted.grids[4] == processor.choose_grid(4)
    assert fit_processor(processor, [16, 12], [16, 12]) is processor
    assert fit_processor(FluxVideoProcessor(), [16, 12], [12]).grids is None


@pytest.mark.parametrize("pretrained", [False, True])
def test_a_start_with_fewer_heads_gives_each_the_nearest(tmp_path, pretrained):
    classifier = tiny_training.model(head_token_budgets=[12])
    model = FluxViTForPreTraining(classifier.config) if pretrained else classifier
    model.save_pretrained(tmp_path)
    start = starting_model(
        tiny_training.NAMES, checkpoint=str(tmp_path), changes=ModelChanges(head_token_budgets=[16, 12, 8])
    )
    assert start.config.head_token_budgets == BUDGETS
    expected = model.fluxvit.poolers[0].state_dict()
    for pooler in start.fluxvit.poolers:
        assert all(tensor.equal(expected[name]) for name, tensor in pooler.state_dict().items())


def test_a_classifier_from_a_pre_trained_encoder_has_nothing_of_the_pre_training_in_its_configuration(tmp_path):
    config = tiny_training.model(aligned_layers=[1], teacher_hidden_size=12, teacher_projection_dim=20).config
    FluxViTForPreTraining(config).save_pretrained(tmp_path)
    found = starting_model(tiny_training.NAMES, checkpoint=str(tmp_path)).config
    untouched = type(found)()
    for name in ("aligned_layers", "teacher_hidden_size", "teacher_projection_dim"):
        assert getattr(found, name) == getattr(untouched, name)
