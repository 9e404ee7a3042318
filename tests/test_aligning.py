"""What FluxAligningTrainer trains on, minimises and evaluates, and `flux-hf align` from the pairs to the checkpoint."""

import json
import math
import shlex

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from transformers import AutoModel, AutoProcessor, SiglipTextConfig, SiglipTextModel, set_seed

from flux_hf.options.aligning import AlignOptions
from flux_hf.scripts import align, embed
from flux_hf.text.aligning import load_splits
from flux_hf.text.captioned_clips import PairCollator, text_number
from flux_hf.text.pairs import load_pairs
from flux_hf.text.starting_dual_encoder import starting_dual_encoder
from flux_hf.text.videos import needs_split
from flux_hf.training.training_clips import TrainingItem
from tests import tiny_aligning, tiny_training, video_datasets

PARTS = ["loss_16", "loss_12", "loss_8", "alignment_12", "alignment_8"]


def losses(trainer) -> list[dict]:
    return [entry for entry in trainer.state.log_history if "loss" in entry]


def weights(trainer) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in trainer.model.parameters()])


@pytest.mark.parametrize(("freeze", "budgets", "parts"), [(True, None, PARTS), (False, [12], ["loss_12"])])
def test_the_log_holds_the_parts_of_the_loss(tmp_path, freeze, budgets, parts):
    trainer = tiny_aligning.trainer(tmp_path, changes={"freeze_text": freeze}, token_budgets=budgets)
    text = [parameter.clone() for parameter in trainer.model.text_model.parameters()]
    trainer.train()
    for entry in losses(trainer):
        assert {name for name in entry if name.startswith(("loss_", "alignment_"))} == set(parts)
        assert entry["loss"] == pytest.approx(sum(entry[name] for name in parts), rel=1e-5)
    same = all(new.equal(old) for new, old in zip(trainer.model.text_model.parameters(), text, strict=True))
    assert same == freeze


def test_the_loss_is_that_of_a_slow_computation(tmp_path):
    """Cross-entropy in both directions; rows with the same caption share the probability."""
    trainer = tiny_aligning.trainer(tmp_path, alignment_weight=0.0)
    texts = ["a dark clip", "a grey clip", "a dark  clip", "something dark"]
    items = [TrainingItem([torch.randn(4, 3, 42, 42)], [text], text, (0,), []) for text in texts]
    batch = PairCollator(trainer.processing_class)(items)
    model = trainer.model.eval()
    loss = trainer.compute_loss(model, batch).item()
    expected = 0.0
    for budget in (16, 12, 8):
        output = model(batch["pixel_values_videos"], batch["input_ids"], batch["attention_mask"], token_budget=budget)
        videos, words = (tiny_aligning.unit(rows.detach()) for rows in (output.video_embeds, output.text_embeds))
        logits = math.exp(model.logit_scale.item()) * videos @ words.T
        same = np.array([[1, 0, 1, 0], [0, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 1]])
        for table in (logits, logits.T):
            for row, right in zip(table, same, strict=True):
                log = row - np.log(np.exp(row).sum())
                expected -= (log * right / right.sum()).sum() / 8
    assert loss == pytest.approx(expected, rel=1e-4)


def test_what_a_frozen_tower_says_is_computed_once(tmp_path):
    seen = []
    trainer = tiny_aligning.trainer(tmp_path, max_steps=9)
    tower = trainer.model.text_model
    tower.register_forward_hook(lambda module, args, kwargs, output: seen.append(kwargs["input_ids"]), with_kwargs=True)
    trainer.train()
    texts = trainer.processing_class.tokenizer.batch_decode([row for batch in seen for row in batch])
    assert sorted(text.replace(" [PAD]", "") for text in texts) == sorted(
        text for shade in tiny_aligning.SHADES for text in (f"a {shade} clip", f"something {shade}")
    )
    fresh = trainer.model.text_features(**trainer.processing_class(text=["a grey clip"], return_tensors="pt"))
    torch.testing.assert_close(trainer.kept_text_features(["a grey clip"]), fresh, atol=1e-6, rtol=0)


def test_frames_of_a_part_of_each_video(tmp_path):
    trainer = tiny_aligning.trainer(tmp_path, min_clip_span=0.25)
    spans = tiny_training.spans_read(tiny_aligning.pairs(2), trainer.view_maker(None))
    assert min(spans) < 20 and max(spans) > 40


@pytest.mark.slow
def test_training_learns_and_recall_says_so(tmp_path):
    set_seed(0)
    evaluation = tiny_aligning.pairs(3)
    trainer = tiny_aligning.trainer(
        tmp_path, evaluation=evaluation, max_steps=40, learning_rate=5e-3, per_device_train_batch_size=12,
        multi_scale_crop=[1.0],
    )  # fmt: skip
    before = trainer.evaluate()
    trainer.train()
    after = trainer.evaluate()
    assert before["eval_chance_r1"] == pytest.approx(1 / 3)
    for budget in (16, 12, 8):
        assert before[f"eval_r1_{budget}"] < 0.7 < after[f"eval_r1_{budget}"]


def test_recalls_are_those_of_a_slow_computation(tmp_path):
    """Texts and videos one by one; captions of one video are right for it, and each has to find it."""
    pairs = tiny_aligning.pairs(6)
    trainer = tiny_aligning.trainer(tmp_path, evaluation=pairs, eval_token_budgets=[16])
    found = trainer.evaluate()
    model, processor = trainer.model.eval(), trainer.processing_class
    with torch.no_grad():
        videos, words = [], []
        for clip, texts in zip(pairs.clips, pairs.labels, strict=True):
            pixels = processor.video_processor([clip], token_budget=16, return_tensors="pt")["pixel_values_videos"]
            videos.append(model.get_video_features(pixels, 16).pooler_output[0])
            tokens = [processor(text=text, return_tensors="pt") for text in texts]
            words.append([tiny_aligning.unit(model.get_text_features(**each).pooler_output[0]) for each in tokens])
        videos = tiny_aligning.unit(videos)
    hits = []
    for video, texts in enumerate(words):
        for text in texts:
            scores = videos @ text
            hits.append(all(scores[video] > scores[other] + 1e-7 for other in range(6) if other != video))
    assert found["eval_r1_16"] == pytest.approx(np.mean(hits))


def test_unreadable_videos(tmp_path):
    folder = tiny_aligning.captioned_folder(tmp_path / "set", {"train": 6, "validation": 4})
    for path in (folder / "train" / "1.mp4", folder / "validation" / "2.mp4"):
        path.write_bytes(b"no video")
    trainer = tiny_aligning.trainer(
        tmp_path / "run", train=load_pairs(folder), evaluation=load_pairs(folder, "validation"), max_steps=3
    )
    trainer.train()
    metrics = trainer.evaluate()
    assert losses(trainer)[-1]["unreadable_videos"] >= 1 and metrics["eval_unreadable"] == 1
    assert metrics["eval_chance_r1"] == pytest.approx(1 / 3)


def test_a_streamed_set(tmp_path):
    folder = tiny_aligning.captioned_folder(tmp_path / "set", {"train": 6})
    trainer = tiny_aligning.trainer(tmp_path / "run", train=load_pairs(folder, streaming=True))
    trainer.train()
    assert len(losses(trainer)) == 2


@pytest.mark.parametrize("freeze", [pytest.param(True, marks=pytest.mark.slow), False])
def test_a_run_that_goes_on_ends_as_one_without_a_break(tmp_path, freeze):
    options = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2}
    runs = []
    for resume in (None, str(tmp_path / "run" / "checkpoint-2")):
        set_seed(0)
        trainer = tiny_aligning.trainer(
            tmp_path / "run", changes={"freeze_text": freeze, "video": {"drop_path_rate": 0.5}}, **options
        )
        trainer.train(resume_from_checkpoint=resume)
        runs.append((weights(trainer), [entry["loss"] for entry in losses(trainer)]))
    assert runs[0][0].equal(runs[1][0]) and runs[0][1] == runs[1][1]


@pytest.mark.parametrize("freeze", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_chunks_teach_what_the_whole_batch_does(tmp_path, freeze):
    """Also where batches are accumulated and the last chunk is smaller."""
    ends = []
    for chunk in (None, 4):
        set_seed(0)
        trainer = tiny_aligning.trainer(
            tmp_path, changes={"freeze_text": freeze}, pairs_per_chunk=chunk,
            per_device_train_batch_size=6, gradient_accumulation_steps=2, optim="sgd", learning_rate=0.05,
        )  # fmt: skip
        for module in trainer.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0  # chunks draw other numbers
        trainer.train()
        ends.append((weights(trainer), [entry["loss"] for entry in losses(trainer)]))
    torch.testing.assert_close(ends[0][0], ends[1][0], atol=1e-5, rtol=1e-4)
    assert ends[0][1] == pytest.approx(ends[1][1], rel=1e-4)


def test_equal_texts_have_equal_numbers():
    assert text_number("A dog  runs") == text_number("a dog runs ") != text_number("a dog run")
    assert 0 <= text_number("x") < 2**63


def test_the_card_says_what_it_is_for(tmp_path):
    trainer = tiny_aligning.trainer(tmp_path)
    trainer.train()
    trainer.create_model_card(dataset="them/pairs")
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.datasets == ["them/pairs"] and card.data.license is None
    assert "text encoder (bert)" in card.text and "pairs_per_chunk" not in card.text
    parameters = sum(parameter.numel() for parameter in trainer.model.parameters())
    assert f"| parameters | {parameters:,} |" in card.text and "| token budgets of the heads | 16, 12, 8 |" in card.text


# The command


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A FluxViT and a text encoder, saved."""
    folder = tmp_path_factory.mktemp("start")
    torch.manual_seed(0)
    tiny_training.model().save_pretrained(folder / "video")
    tiny_training.processor().save_pretrained(folder / "video")
    tiny_aligning.text_folder(folder / "text")
    return folder


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return tiny_aligning.captioned_folder(tmp_path_factory.mktemp("set") / "pairs", {"train": 6, "validation": 3})


@pytest.fixture
def command(dataset, start, tmp_path):
    """Call it with options that differ."""
    tiny = tiny_aligning.arguments(tmp_path)

    def run(*words: str, **changes) -> None:
        options = {name: getattr(tiny, name) for name in tiny_aligning.GRIDS}
        options |= {"dataset": dataset, "output_dir": tmp_path / "run", "use_cpu": True, "max_steps": 2}
        options |= {"model": start / "video", "text_model": start / "text", "projection_dim": 8}
        options |= {"per_device_train_batch_size": 3, "save_strategy": "no", "report_to": "none", "logging_steps": 1}
        options |= changes
        align.main([*words, *(f"--{name}={value}" for name, value in options.items() if value is not None)])

    return run


def test_from_pairs_to_the_next_commands(command, dataset, tmp_path, capsys):
    command(token_budget=12)
    printed = capsys.readouterr().out
    assert "to train on: 6 videos with 6 captions; to evaluate on: 3 videos with 3 captions" in printed
    assert "captions that find their clip first:" in printed and "(chance 33 %)" in printed
    assert f"flux-hf search 'a sentence' --index {tmp_path / 'run.parquet'}" in printed
    model, processor = (auto.from_pretrained(tmp_path / "run") for auto in (AutoModel, AutoProcessor))
    assert model.config.freeze_text and model.config.projection_dim == 8
    inputs = processor(videos=[str(dataset / "train" / "0.mp4")], text=["a clip"], return_tensors="pt")
    assert inputs["token_budget"] == 12
    with torch.no_grad():
        output = model(**inputs)
    assert output.logits_per_video.shape == (1, 1) and output.keep_mask.sum() == 12


@pytest.mark.slow
def test_it_goes_on_from_what_it_wrote(command, tmp_path, start):
    command(max_steps=1)
    command(model=tmp_path / "run", text_model=None, output_dir=tmp_path / "second", projection_dim=None)
    first, second = (AutoModel.from_pretrained(tmp_path / name) for name in ("run", "second"))
    assert second.config.projection_dim == 8
    changed = [name for name, value in second.state_dict().items() if not value.equal(first.state_dict()[name])]
    assert changed and not [name for name in changed if name.startswith("text_model.")]


def test_a_list_and_a_share_of_it(dataset, tmp_path):
    rows = [{"video": str(dataset / "train" / f"{number}.mp4"), "caption": f"clip {number}"} for number in range(6)]
    (tmp_path / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = AlignOptions(str(tmp_path / "list.jsonl"), validation_share=0.34)
    train, kept = load_splits(options, 0)
    assert len(train) == 4 and len(kept) == 2
    both = [row["captions"][0] for part in (train, kept) for row in part]
    assert sorted(both) == [f"clip {number}" for number in range(6)]
    assert load_splits(AlignOptions(str(tmp_path / "list.jsonl")), 0)[1] is None
    other = AlignOptions(str(tmp_path / "list.jsonl"), eval_dataset=str(dataset))
    assert len(load_splits(other, 0)[1]) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text_model": None}, "a FluxViT has no text encoder: give --text_model"),
        ({"model": None, "text_model": None}, "nothing to start from"),
        ({"validation_share": 1.5}, "--validation_share must be between 0 and 1, got 1.5"),
        ({"validation_share": 0.5, "eval_split": "test"}, "--validation_share keeps back training clips"),
        ({"caption_column": "words"}, "has no column of captions: it has file_name, caption; accepted is words"),
        ({"eval_split": "test"}, "--eval_split: .* no split 'test'"),
        ({"per_device_train_batch_size": 1}, "^per_device_train_batch_size 1: a pair learns by being told apart"),
        ({"pairs_per_chunk": 0}, "pairs_per_chunk must be at least 1"),
    ],
)
def test_options_that_make_no_sense(command, changes, message):
    with pytest.raises(ValueError, match=message):
        command(**changes)


def test_towers_that_are_none(start, tmp_path):
    with pytest.raises(ValueError, match=r"--text_model .*video: it is a fluxvit, no text encoder"):
        starting_dual_encoder(checkpoint=str(start / "video"), text_checkpoint=str(start / "video"))
    with pytest.raises(ValueError, match=r"--model .*text: it is a bert; accepted are a FluxViT and"):
        starting_dual_encoder(checkpoint=str(start / "text"), text_checkpoint=str(start / "text"))
    model, *_ = starting_dual_encoder(checkpoint=str(start / "video"), text_checkpoint=str(start / "text"))
    model.save_pretrained(tmp_path)
    tiny_aligning.processor().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"--projection_dim 4: the checkpoint has 512, which stays"):
        starting_dual_encoder(checkpoint=str(tmp_path), changes={"projection_dim": 4})
    with pytest.raises(ValueError, match="it has a text encoder, --text_model would take its place"):
        starting_dual_encoder(checkpoint=str(tmp_path), text_checkpoint=str(start / "text"))


def test_how_long_sentences_are_stays_as_it_was(command, start, tmp_path):
    """Where it goes on from a checkpoint with another length than the default."""
    model, *_ = starting_dual_encoder(checkpoint=str(start / "video"), text_checkpoint=str(start / "text"))
    model.save_pretrained(tmp_path / "first")
    processor = tiny_aligning.processor()
    processor.max_length = 7
    processor.save_pretrained(tmp_path / "first")
    command(model=tmp_path / "first", text_model=None, projection_dim=None, max_steps=1, eval_split="")
    assert AutoProcessor.from_pretrained(tmp_path / "run").max_length == 7


def test_a_tower_that_needs_all_its_positions(start, tmp_path):
    words = SiglipTextConfig(
        vocab_size=12,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=9,
    )
    SiglipTextModel(words).save_pretrained(tmp_path)
    tiny_aligning.tokenizer().save_pretrained(tmp_path)
    *_, lengths = starting_dual_encoder(checkpoint=str(start / "video"), text_checkpoint=str(tmp_path))
    assert lengths == {"max_length": 9, "fixed_length": True}


def test_a_list_with_long_captions_whose_videos_are_elsewhere(command, dataset, tmp_path, caplog, capsys):
    """The captions that are cut are counted, and the next command that is printed finds the videos, too."""
    rows = [
        {"video": f"{number}.mp4", "caption": "a clip of something " * (1 + 20 * (number % 2))} for number in range(4)
    ]
    (tmp_path / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command(dataset=tmp_path / "list.jsonl", video_root=dataset / "train")
    assert "2 of the first 4 captions have more than 32 tokens" in caplog.text
    printed = capsys.readouterr().out
    embed.main(shlex.split(next(line for line in printed.splitlines() if "flux-hf embed" in line))[2:])
    assert capsys.readouterr().out.startswith("4 videos at ")


@pytest.mark.parametrize("kind", ["folder", "list", "set"])
def test_only_a_data_set_has_splits(dataset, tmp_path, kind):
    (tmp_path / "list.csv").write_text("video,caption\n")
    source = {"folder": dataset, "list": tmp_path / "list.csv", "set": tmp_path / "parquet"}[kind]
    if kind == "set":
        video_datasets.parquet(source, {"train": 1})
    assert needs_split(source) == (kind == "set")


@pytest.mark.slow
def test_a_cache_of_decoded_clips(command, tmp_path):
    command(cache_dir=tmp_path / "cache", cached_frames=8, cached_size=48)
    assert len(list((tmp_path / "cache").glob("clips_*.npy"))) == 2
