"""Training of other families than FluxViT: through the same trainer, from the same command."""

import json
import logging
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForVideoClassification, Trainer, TrainingArguments, set_seed

from flux_hf import FluxVideoProcessor, disable_flux, enable_flux
from flux_hf.modeling.flux_model_fluxvit import FluxModel
from flux_hf.scripts import finetune
from flux_hf.training import FluxTrainer, starting_model
from flux_hf.training.optimizer import parameter_groups
from flux_hf.training.starting_model import ModelChanges
from tests import stock_models, tiny_training, video_datasets

BUDGETS = [16, 12, 8]
GRIDS = {"min_size": 24, "max_size": 32, "size_step": 8, "min_pool_tokens": 16, "max_pool_tokens": 64}
FAMILIES = [stock_models.videomae, stock_models.vjepa2]
PIXELS = torch.randn(2, 4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def trainer(folder, model, **options) -> FluxTrainer:
    return FluxTrainer(
        model=model,
        args=tiny_training.arguments(folder, **GRIDS | options),
        train_dataset=tiny_training.clips(),
        eval_dataset=tiny_training.clips(6),
        processing_class=FluxVideoProcessor(patch_size=8, tubelet_size=2, grids={16: (6, 32), 12: (4, 32), 8: (4, 24)}),
    )


def moved(model, before: dict[str, torch.Tensor]) -> set[str]:
    return {name for name, tensor in model.state_dict().items() if not tensor.equal(before[name])}


def copied(model) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.long
@pytest.mark.parametrize(("make", "heads"), [*zip(FAMILIES, [False, True], strict=True)])
def test_several_budgets_with_alignment_and_what_is_saved(tmp_path, make, heads):
    set_seed(0)
    model = enable_flux(make(), 16, heads_per_budget=heads, token_budgets=BUDGETS)
    before = copied(model)
    run = trainer(tmp_path, model, layer_decay=0.5)
    assert {grid.frames % 2 for grid in run.grids()} == {0} and len(run.grids()) > 3
    run.train()
    logged = next(entry for entry in run.state.log_history if "loss" in entry)
    parts = {f"loss_{budget}" for budget in BUDGETS} | {"alignment_12", "alignment_8"}
    assert sum(logged[part] for part in parts) == pytest.approx(logged["loss"], rel=1e-5)
    assert all(logged[part] > 0 for part in parts)
    assert {name for name in before if ".layer." in name and "predictor" not in name} <= moved(model, before)
    metrics = run.evaluate()
    assert {f"eval_top1_{budget}" for budget in BUDGETS} <= metrics.keys()

    run.save_model()
    saved = AutoModelForVideoClassification.from_pretrained(tmp_path).eval()
    assert saved.token_budgets == BUDGETS and saved.config.token_budget == 16
    assert (saved.head_budget(11) == 12) if heads else (saved.head_budget(11) is None)
    with torch.no_grad():
        expected, found = model.eval()(PIXELS, token_budgets=BUDGETS), saved(PIXELS, token_budgets=BUDGETS)
    torch.testing.assert_close(found.logits, expected.logits)
    assert set(FluxVideoProcessor.from_pretrained(tmp_path).grids) == set(BUDGETS)


@pytest.mark.parametrize("make", FAMILIES)
def test_rates_follow_the_layers_of_the_family(make):
    model = enable_flux(make())
    groups = parameter_groups(model, model.named_parameters(), learning_rate=1.0, weight_decay=0.1, layer_decay=0.5)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = {names[id(p)]: (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    assert found.keys() == dict(model.named_parameters()).keys()
    for name, (rate, decay) in found.items():
        layer = name.partition("encoder.layer.")[2].partition(".")[0]
        depth = int(layer) + 1 if layer and "predictor" not in name else 0 if "patch_embed" in name else 4
        assert rate == 0.5 ** (4 - depth), name
        assert (decay == 0.0) == ("bias" in name or "norm" in name or "token" in name), name


@pytest.mark.long
@pytest.mark.parametrize("make", FAMILIES)
def test_a_frozen_encoder_stays(tmp_path, make):
    model = enable_flux(make(), token_budgets=BUDGETS)
    before = copied(model)
    trainer(tmp_path, model, freeze="backbone").train()
    names = moved(model, before)
    assert names and all(name.startswith(("fc_norm.", "pooler.", "classifier.")) for name in names)


@pytest.mark.long
def test_a_resumed_run_ends_where_a_whole_one_does(tmp_path):
    """From a file that has the names of published VideoMAE checkpoints."""
    older_file(tmp_path / "stock")

    def run(folder, resume=None, **options):
        set_seed(0)
        model = starting_model(stock_models.NAMES, checkpoint=str(tmp_path / "stock"), say=lambda _: None)
        one = trainer(folder, model, token_budgets=BUDGETS, ema_decay=0.5, max_steps=2, **options)
        one.train(resume_from_checkpoint=resume)
        return copied(model), one

    expected, _ = run(tmp_path / "whole", save_strategy="steps", save_steps=1)
    found, one = run(tmp_path / "again", resume=str(tmp_path / "whole" / "checkpoint-1"))
    assert all(tensor.equal(expected[name]) for name, tensor in found.items())
    one.save_model()
    saved = AutoModelForVideoClassification.from_pretrained(tmp_path / "again")
    average = one.moving_average.average.module.state_dict()
    assert all(tensor.equal(average[name]) for name, tensor in saved.state_dict().items())


def older_file(folder) -> None:
    model = stock_models.videomae()
    for layer in model.videomae.encoder.layer:
        torch.nn.init.normal_(layer.attention.attention.query.bias)
    model.save_pretrained(folder)
    state = {
        name.replace("query.bias", "q_bias").replace("value.bias", "v_bias"): tensor
        for name, tensor in load_file(folder / "model.safetensors").items()
    }
    save_file(state, folder / "model.safetensors", {"format": "pt"})


# peft asks the model for what transformers has renamed.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
@pytest.mark.parametrize("make", FAMILIES)
def test_adapters_learn_under_gradient_checkpointing(tmp_path, make):
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    settings = peft.LoraConfig(r=2, target_modules=r".*encoder\.layer.*(query|value)", modules_to_save=["classifier"])
    model = peft.get_peft_model(enable_flux(make(), token_budgets=BUDGETS), settings)
    before = copied(model)
    kind = "activation" if hasattr(TrainingArguments, "activation_checkpointing") else "gradient"
    checkpointing = {f"{kind}_checkpointing": True, f"{kind}_checkpointing_kwargs": {"use_reentrant": True}}
    run = trainer(tmp_path, model, layer_decay=0.5, token_budgets=[20, 10], **checkpointing)
    run.train()
    assert model.token_budgets == [20, 10]  # one head for all: an adapter may have budgets of its own
    names = moved(model, before)
    assert {name for name in before if "lora_B" in name} <= names
    assert not [name for name in names if "lora" not in name and "modules_to_save" not in name]
    assert {round(group["initial_lr"] / 1e-3, 3) for group in run.optimizer.param_groups} == {1.0, 0.5, 0.25, 0.125}


@pytest.mark.parametrize(("make", "heads"), [*zip(FAMILIES, [True, False], strict=True)])
def test_the_plain_trainer(tmp_path, make, heads):
    torch.manual_seed(0)
    model = enable_flux(make(), 12, token_budgets=[12, 8], heads_per_budget=heads)
    before = copied(model)
    rows = [{"pixel_values_videos": clip, "labels": label} for label, clip in enumerate(PIXELS)]
    settings = {"use_cpu": True, "report_to": "none", "disable_tqdm": True, "save_strategy": "no", "max_steps": 2}
    run = Trainer(model=model, args=TrainingArguments(str(tmp_path), **settings), train_dataset=rows)
    run.train()
    names = moved(model, before)
    assert "classifier.weight" in names and ("budget_heads.0.classifier.weight" in names) == heads
    prediction = run.predict(rows)
    with torch.no_grad():
        torch.testing.assert_close(torch.tensor(prediction.predictions), model.eval()(PIXELS).logits)


def test_a_model_without_selection_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"VideoMAEForVideoClassification takes no token budget: .*enable_flux"):
        trainer(tmp_path, stock_models.videomae())


@pytest.mark.parametrize("make", FAMILIES)
def test_what_fsdp_keeps_whole_is_there(make):
    model = make()
    for _ in range(2):
        enable_flux(model)
        assert model._no_split_modules <= {type(module).__name__ for module in model.modules()}
        disable_flux(model)
        assert model._no_split_modules == make()._no_split_modules


# Where fine-tuning starts


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stock")
    torch.manual_seed(0)
    names = {0: "running", 1: "jumping", 2: "playing a flute", 3: "sleeping"}
    stock_models.videomae(id2label=names).save_pretrained(folder)
    return folder


def test_labels_are_taken_by_name(start):
    stock = AutoModelForVideoClassification.from_pretrained(start)
    model = starting_model(video_datasets.CLASSES, checkpoint=str(start))
    assert isinstance(model, FluxModel) and model.config.id2label == dict(enumerate(video_datasets.CLASSES))
    assert model.classifier.weight.equal(stock.classifier.weight[[1, 2, 0]])
    told = []
    model = starting_model(["x", "y"], checkpoint=str(start), say=told.append)
    assert told == ["new classifiers for 2 labels: the checkpoint does not have them all"]
    assert model.num_labels == 2 and model(PIXELS).logits.shape == (2, 2)


def test_what_can_be_set_in_another_family(start, tmp_path):
    with pytest.raises(ValueError, match="--drop_path_rate: a model of the type videomae drops no layers"):
        starting_model(["x"], checkpoint=str(start), changes=ModelChanges(drop_path_rate=0.1))
    changes = ModelChanges(head_token_budgets=[16, 8])
    model = starting_model(["sleeping"], checkpoint=str(start), changes=changes)
    assert [model.head_budget(tokens) for tokens in (20, 9)] == [16, 8]
    assert model.budget_heads[0].classifier.weight.equal(model.classifier.weight)
    with torch.no_grad():
        model.budget_heads[0].classifier.bias.fill_(1.0)
    model.save_pretrained(tmp_path)
    again = starting_model(["sleeping"], checkpoint=str(tmp_path), changes=ModelChanges(head_token_budgets=[9]))
    assert again.token_budgets == [9] and again.classifier.bias.item() == 1.0

    stock_models.vjepa2().save_pretrained(tmp_path / "vjepa2")
    changes = ModelChanges(drop_path_rate=0.3)
    model = starting_model(["x"], checkpoint=str(tmp_path / "vjepa2"), changes=changes)
    assert model.vjepa2.encoder.layer[-1].drop_path.drop_prob == pytest.approx(0.3)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return video_datasets.videofolder(tmp_path_factory.mktemp("set"), {"train": 6, "validation": 3})


@pytest.fixture
def command(dataset, start):
    """Call it with options that differ."""
    grids = GRIDS | {"min_frames": 4, "max_frames": 8}

    def run(*words: str, **changes) -> None:
        options = grids | {"dataset": dataset, "model": start, "max_steps": 1, "logging_steps": 1, "use_cpu": True}
        options |= {"per_device_train_batch_size": 2, "save_strategy": "no", "report_to": "none"}
        finetune.main([*(f"--{name}={value}" for name, value in (options | changes).items()), *words])

    return run


def test_from_a_stock_checkpoint_to_a_tuned_one(command, dataset, tmp_path, capsys):
    command("--token_budgets", "16", "8", output_dir=tmp_path)
    assert "at 8" in capsys.readouterr().out.splitlines()[-4]
    history = json.loads((tmp_path / "trainer_state.json").read_text())["log_history"]
    assert {"loss_16", "loss_8", "alignment_8"} <= history[0].keys()
    assert {"eval_top1_16", "eval_top1_8"} <= history[-1].keys()
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["model_type"], config["token_budgets"], config["token_budget"]) == ("flux_videomae", [16, 8], 16)
    model = AutoModelForVideoClassification.from_pretrained(tmp_path).eval()
    assert model.config.id2label == dict(enumerate(video_datasets.CLASSES))
    processor = FluxVideoProcessor.from_pretrained(tmp_path)
    inputs = processor(str(next((dataset / "validation").glob("*/*.mp4"))), return_tensors="pt")
    assert inputs["pixel_values_videos"].shape == (1, 4, 3, 32, 32)  # the grid that the model knows
    assert int(model(**inputs).keep_mask.sum()) == 16


@pytest.mark.slow
def test_a_training_at_all_tokens_alone_is_told(command, tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "flux_hf"):
        command(output_dir=tmp_path)
    assert "the model is trained at 32 tokens alone, all of its own grid" in caplog.text
    assert AutoModelForVideoClassification.from_pretrained(tmp_path).token_budgets == [32]
    caplog.clear()
    with caplog.at_level(logging.WARNING, "flux_hf"):
        command(model=tmp_path, output_dir=tmp_path / "next")
    assert "tokens alone" not in caplog.text


@pytest.mark.slow
def test_a_tuned_model_goes_on(command, tmp_path):
    """After an interruption, and as the start of another run."""
    words = ("--token_budgets", "16", "8")
    command(*words, output_dir=tmp_path / "run", save_strategy="steps", save_steps=1, max_steps=2)
    shutil.copytree(tmp_path / "run", tmp_path / "again")
    shutil.rmtree(tmp_path / "again" / "checkpoint-2")
    (tmp_path / "again" / "model.safetensors").unlink()
    command(*words, output_dir=tmp_path / "again", resume_from_checkpoint="last", max_steps=2)
    expected, found = (load_file(tmp_path / name / "model.safetensors") for name in ("run", "again"))
    assert all(tensor.equal(found[name]) for name, tensor in expected.items())

    command("--token_budgets", "12", model=tmp_path / "run", output_dir=tmp_path / "next", num_frames=6, size=24)
    assert AutoModelForVideoClassification.from_pretrained(tmp_path / "next").token_budgets == [12]
    processor = FluxVideoProcessor.from_pretrained(tmp_path / "next")
    assert processor.choose_grid() == (6, 24)


def test_options_that_another_family_has_not(command, tmp_path):
    with pytest.raises(ValueError, match="--drop_path_rate: a model of the type videomae drops no layers"):
        command(output_dir=tmp_path, drop_path_rate=0.1)
