"""What FluxTrainer trains on, minimises, logs and evaluates."""

import math

import numpy as np
import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from torch.nn import functional as F
from torch.utils.data import Dataset
from transformers import set_seed
from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from flux_hf import FluxViTForVideoClassification, enable_flux
from flux_hf.data import load_video_dataset
from flux_hf.processing.frame_sampling_fluxvit import segment_bounds, snap_to_key_frames
from flux_hf.training import FluxTrainer
from flux_hf.training.augmentation import ClipAugmentation, mix_batch, random_state
from flux_hf.training.finetuning import FinetuneOptions, finetune
from flux_hf.training.moving_average import FILE_NAME
from flux_hf.training.objective import flux_loss_parts
from flux_hf.training.optimizer import parameter_groups
from flux_hf.training.sampling import ClipRequest
from flux_hf.training.training_clips import TrainingClips, ViewMaker
from tests import tiny_training, video_datasets
from tests.video_files import read_numbers

MEAN, STD = [0.5] * 3, [0.25] * 3
PARTS = ["loss_16", "loss_12", "loss_8", "alignment_12", "alignment_8"]


def losses(trainer) -> list[dict]:
    return [entry for entry in trainer.state.log_history if "loss" in entry]


# The objective


@pytest.mark.parametrize("soft", [False, True])
def test_the_objective_is_that_of_the_official_engine(soft):
    torch.manual_seed(0)
    model = tiny_training.model()
    labels = torch.tensor([2, 0])
    if soft:
        labels = torch.softmax(torch.randn(2, 3), -1)
    output = model(torch.randn(2, 6, 3, 42, 42), token_budgets=[16, 12, 8])
    parts = flux_loss_parts(output, labels, [16, 12, 8], alignment_weight=2.0)
    assert list(parts) == PARTS
    for index, budget in enumerate((16, 12, 8)):
        log = output.logits[index].log_softmax(-1)
        targets = labels if soft else F.one_hot(labels, 3)
        torch.testing.assert_close(parts[f"loss_{budget}"], -(targets * log).sum(-1).mean())
    largest = output.pooler_output[0] / output.pooler_output[0].norm(dim=-1, keepdim=True)
    for decoder, feature, budget in zip(model.alignment_decoders, output.pooler_output[1:], (12, 8), strict=True):
        mapped = decoder.norm(decoder.projection(feature))
        mapped = mapped / mapped.norm(dim=-1, keepdim=True)
        # Between unit vectors every difference is below 1 in size here, where SmoothL1 is half the square.
        expected = 2.0 * (0.5 * (mapped - largest).square()).mean()
        torch.testing.assert_close(parts[f"alignment_{budget}"], expected, atol=2e-3, rtol=0)


def test_the_largest_budget_is_not_pulled_towards_the_smaller_ones():
    torch.manual_seed(0)
    model = tiny_training.model()
    output = model(torch.randn(2, 6, 3, 42, 42), token_budgets=[16, 8])
    flux_loss_parts(output, torch.tensor([0, 1]), [16, 8])["alignment_8"].backward()
    assert model.fluxvit.poolers[0].output.weight.grad is None
    assert model.fluxvit.poolers[2].output.weight.grad.abs().sum() > 0


@pytest.mark.long
@pytest.mark.parametrize(
    ("budgets", "parts"), [([12], ["loss_12"]), (None, PARTS), ([16, 8], [*PARTS[::2][:2], PARTS[4]])]
)
def test_the_log_holds_the_parts_of_the_loss(tmp_path, budgets, parts):
    trainer = tiny_training.trainer(tmp_path, token_budgets=budgets, gradient_accumulation_steps=3)
    trainer.train()
    assert len(losses(trainer)) == 2
    for entry in losses(trainer):
        assert {name for name in entry if name.startswith(("loss_", "alignment_"))} == set(parts)
        assert entry["loss"] == pytest.approx(sum(entry[name] for name in parts), rel=1e-5)


def test_training_learns(tmp_path):
    set_seed(0)
    trainer = tiny_training.trainer(
        tmp_path, evaluation=tiny_training.clips(), max_steps=30, learning_rate=5e-3, rand_augment_ops=0,
        per_device_train_batch_size=6, min_crop_area=0.5,
    )  # fmt: skip
    before = trainer.evaluate()
    trainer.train()
    after = trainer.evaluate()
    for budget in (16, 12, 8):
        assert before[f"eval_top1_{budget}"] < 0.9 < after[f"eval_top1_{budget}"]


def test_a_loss_that_is_not_finite_stops_with_step_grid_and_videos(tmp_path):
    trainer = tiny_training.trainer(tmp_path)
    with torch.no_grad():
        trainer.model.classifier.heads[1].bias.fill_(math.inf)
    with pytest.raises(FloatingPointError, match=r"step 0.*loss_12.*grid \d frames x (28|42) pixels.*clip \d"):
        trainer.train()


def test_budgets_that_come_twice_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"token_budgets must be .*different and descending, got \[16, 16\]"):
        tiny_training.trainer(tmp_path, token_budgets=[16, 16])


def test_heads_that_no_grid_reaches_are_refused(tmp_path):
    """A step trains the head that is nearest to the tokens kept, so 13 tokens never train the head of 16."""
    options = {"min_pool_tokens": 12, "max_pool_tokens": 13, "min_frames": 3, "max_frames": 3, "max_size": 28}
    trainer = tiny_training.trainer(tmp_path, **options)
    with pytest.raises(ValueError, match=r"token_budgets \[16\] .* 12 tokens of the largest grid"):
        trainer.train()
    tiny_training.trainer(tmp_path, token_budgets=[12, 8], **options).train()


def test_a_step_trains_the_heads_of_the_tokens_kept(tmp_path):
    model = tiny_training.model()
    output = model(torch.randn(2, 3, 3, 28, 28), token_budgets=[16, 12, 8])
    parts = flux_loss_parts(output, torch.tensor([0, 1]), [16, 12, 8])
    assert parts["loss_16"] == parts["loss_12"] != parts["loss_8"]
    assert parts["alignment_12"] < 1e-6 < parts["alignment_8"]
    sum(parts.values()).backward()
    trained = [pooler.output.weight.grad is not None for pooler in model.fluxvit.poolers]
    assert trained == [False, True, True]
    assert [decoder.projection.weight.grad is not None for decoder in model.alignment_decoders] == [False, True]


def test_the_labels_of_the_data_set_go_into_the_model(tmp_path):
    trainer = tiny_training.trainer(tmp_path, changes={"id2label": {0: "x", 1: "y", 2: "z"}})
    trainer.train()
    trainer.save_model()
    config = FluxViTForVideoClassification.from_pretrained(tmp_path).config
    assert config.id2label == {0: "a", 1: "b", 2: "c"}
    assert config.label2id == {"a": 0, "b": 1, "c": 2}
    with pytest.raises(ValueError, match="3 labels, the model has 2"):
        tiny_training.trainer(tmp_path, changes={"id2label": {0: "x", 1: "y"}, "label2id": {"x": 0, "y": 1}}).train()


def test_any_torch_data_set_with_the_model_inputs(tmp_path):
    class Noise(Dataset):
        def __len__(self):
            return 8

        def __getitem__(self, index):
            pixels = torch.randn(4, 3, 42, 42, generator=torch.Generator().manual_seed(index))
            return {"pixel_values_videos": pixels, "labels": index % 3}

    trainer = tiny_training.trainer(tmp_path, train=Noise(), evaluation=Noise())
    trainer.train()
    assert len(losses(trainer)) == 2
    assert trainer.evaluate().keys() >= {"eval_top1_16", "eval_top1_12", "eval_top1_8"}


# Batches


def batches(trainer) -> list[dict]:
    return list(trainer.get_train_dataloader())


def test_batches_hold_one_grid_and_every_clip_once(tmp_path):
    found = batches(tiny_training.trainer(tmp_path, seed=1))
    shapes = [tuple(batch["pixel_values_videos"].shape) for batch in found]
    assert {(shape[1], shape[3]) for shape in shapes} <= tiny_training.GRIDS
    assert len({shape[1:] for shape in shapes}) > 1
    assert sorted(name for batch in found for name in batch["names"]) == sorted(tiny_training.clips().video_names)


@pytest.mark.slow
def test_batches_do_not_depend_on_workers(tmp_path):
    dataset = load_video_dataset(video_datasets.videofolder(tmp_path / "set", {"train": 6}), "train")
    (tmp_path / "set" / "train" / "running" / "2.mp4").write_bytes(b"broken")
    options = {"mixup_alpha": 0.8, "cutmix_alpha": 1.0, "random_erasing": 0.5, "train": dataset}
    expected = batches(tiny_training.trainer(tmp_path, **options))
    for method in ("fork", "spawn"):
        found = batches(
            tiny_training.trainer(
                tmp_path, dataloader_num_workers=2, dataloader_multiprocessing_context=method, **options
            )
        )
        for one, other in zip(found, expected, strict=True):
            assert torch.equal(one["pixel_values_videos"], other["pixel_values_videos"])
            assert torch.equal(one["labels"], other["labels"])
            assert (one["names"], one["unreadable"]) == (other["names"], other["unreadable"])


def test_several_views_of_one_decoding(tmp_path):
    source = tiny_training.clips()
    reads = []

    class Counted(type(source)):
        def read(self, index, choose):
            reads.append(index)
            return super().read(index, choose)

    counted = Counted(source.clips, source.labels, source.label_names, source.video_names)
    found = batches(tiny_training.trainer(tmp_path, train=counted, views_per_video=2))
    assert len(reads) == 12
    for batch in found:
        assert len(batch["labels"]) == 4
        assert batch["labels"][:2].tolist() == batch["labels"][2:].tolist()
        assert not torch.equal(batch["pixel_values_videos"][0], batch["pixel_values_videos"][2])


def test_a_random_frame_of_each_segment():
    taken = set()

    class Source(type(tiny_training.clips())):
        def read(self, index, choose):
            numbers = choose(self.clips.shape[1])
            taken.update(enumerate(numbers.tolist()))
            return self.clips[index][numbers]

    source = tiny_training.clips(2, frames=12)
    source = Source(source.clips, source.labels, source.label_names, source.video_names)
    clips = TrainingClips(source, ViewMaker(lambda frames, size: torch.zeros(1)))
    for epoch in range(60):
        clips[ClipRequest(0, epoch, (4, 28))]
    assert taken == {(place, number) for place in range(4) for number in range(3 * place, 3 * place + 3)}


def test_frames_of_a_part_of_each_video(tmp_path):
    """What the trainer's clips show: slower motions, and at other times."""
    trainer = tiny_training.trainer(tmp_path, min_clip_span=0.25)
    spans = tiny_training.spans_read(tiny_training.clips(2, frames=12), trainer.view_maker(tiny_training.NAMES))
    assert min(spans) < 20 and max(spans) > 40


def test_parts_of_videos_have_no_segments_to_snap_in(tmp_path):
    with pytest.raises(ValueError, match="min_clip_span 0.5 .* snap_to_keyframes"):
        tiny_training.arguments(tmp_path, min_clip_span=0.5, snap_to_keyframes=True)


# Key frames


def numbers_seen(trainer, count: int) -> dict[tuple, list[int]]:
    """(place in the run, name of a video) -> the numbers of its frames, for the first `count` batches."""
    mean, std = (torch.tensor(value)[:, None, None] for value in (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD))
    loader, seen = iter(trainer.get_train_dataloader()), {}
    for place in range(count):
        batch = next(loader)
        for name, clip in zip(batch["names"], batch["pixel_values_videos"], strict=True):
            frames = (255 * (clip * std + mean)).permute(0, 2, 3, 1).numpy()
            seen[place, name] = [number % 100 for number in read_numbers(frames)]
    return seen


@pytest.mark.parametrize("container", ["mp4", "webm"])
@pytest.mark.parametrize("streaming", [False, True])
def test_random_frames_snap_to_key_frames(tmp_path, streaming, container):
    codec = {"mp4": {"sc_threshold": "0", "bf": "2"}, "webm": {"deadline": "realtime", "keyint_min": "7"}}[container]
    for number in range(6):
        path = tmp_path / f"{number}.{container}"
        video_datasets.write_video(path, number, height=48, width=48, options={"g": "7", **codec})
    (tmp_path / "train.csv").write_text("".join(f"{number}.{container} {number % 3}\n" for number in range(6)))
    plain = {
        "min_crop_area": 1.0,
        "max_crop_aspect": 1.0,
        "flip": False,
        "rand_augment_ops": 0,
        "min_size": 42,
        "shuffle_buffer": 3,
    }

    def seen(**options):
        train = load_video_dataset(tmp_path, "train", streaming=streaming, label_names=tiny_training.NAMES)
        return numbers_seen(tiny_training.trainer(tmp_path / "run", train=train, **plain, **options), 3)

    drawn, snapped = seen(), seen(snap_to_keyframes=True)
    assert len(drawn) == 6 and snapped == seen(snap_to_keyframes=True) and snapped != drawn
    for key, numbers in drawn.items():
        assert snapped[key] == snap_to_key_frames(numbers, 30, [0, 7, 14, 21, 28]).tolist()
        first, last = segment_bounds(30, len(numbers))
        assert (first <= snapped[key]).all() and (snapped[key] <= last).all()
    assert any(number % 7 for numbers in snapped.values() for number in numbers)
    assert snapped != seen(snap_to_keyframes=True, seed=5)


def test_snapping_in_cached_clips_is_refused(tmp_path):
    with pytest.raises(ValueError, match="snap_to_keyframes needs video files"):
        tiny_training.trainer(tmp_path, snap_to_keyframes=True)
    options = FinetuneOptions(dataset="missing", model="default", cache_dir=str(tmp_path / "cache"))
    with pytest.raises(ValueError, match="snap_to_keyframes .* --cache_dir"):
        finetune(options, tiny_training.arguments(tmp_path, snap_to_keyframes=True))


def test_augmenting_on_the_device_needs_no_loading_processes(tmp_path):
    with pytest.raises(ValueError, match="augment_on_device needs dataloader_num_workers 0, got 2"):
        tiny_training.arguments(tmp_path, augment_on_device=True, dataloader_num_workers=2)
    args = tiny_training.arguments(tmp_path, augment_on_device=True)
    assert tiny_training.trainer(tmp_path).args.device == args.device and not args.dataloader_pin_memory


# Unreadable videos


@pytest.fixture
def damaged(tmp_path):
    folder = video_datasets.kinetics(tmp_path / "set", {"train": 8})
    for number in (2, 5):
        (folder / "train" / f"clip {number}.mp4").write_bytes(b"no video")
    return load_video_dataset(folder, "train")


def test_unreadable_videos_are_replaced_logged_once_and_counted(tmp_path, damaged, warnings_of_training):
    trainer = tiny_training.trainer(tmp_path / "run", train=damaged, max_steps=8)
    trainer.train()
    warned = warnings_of_training()
    assert len(warned) == 2
    assert {name for name in ("clip 2.mp4", "clip 5.mp4") if any(name in text for text in warned)} == {
        "clip 2.mp4",
        "clip 5.mp4",
    }
    # Each of the two comes once in each of the two epochs; replacements may hit them again.
    assert losses(trainer)[-1]["unreadable_videos"] >= 4
    assert "unreadable_videos" in losses(trainer)[-1]
    for batch in batches(trainer):
        assert len(batch["pixel_values_videos"]) == 2
        assert not {"clip 2.mp4", "clip 5.mp4"} & {name.split("/")[-1] for name in batch["names"]}


def test_too_many_unreadable_videos_in_a_row_stop_the_run(tmp_path):
    folder = video_datasets.kinetics(tmp_path / "set", {"train": 4})
    for path in (folder / "train").iterdir():
        path.write_bytes(b"no video")
    trainer = tiny_training.trainer(
        tmp_path / "run", train=load_video_dataset(folder, "train"), max_unreadable_in_a_row=3
    )
    with pytest.raises(RuntimeError, match=r"3 videos in a row(.|\n)*clip \d\.mp4(.|\n)*check-videos"):
        trainer.train()


def test_evaluation_leaves_unreadable_videos_out_and_says_so(tmp_path, damaged, warnings_of_training):
    trainer = tiny_training.trainer(
        tmp_path / "run", evaluation=damaged, changes={"id2label": {0: "x", 1: "y", 2: "z"}}
    )
    with torch.no_grad():
        for classifier in trainer.model.classifier.heads:
            classifier.weight.zero_()
            classifier.bias.copy_(torch.tensor([1.0, 0.0, 0.0]))
    figures = trainer.evaluate()
    assert figures["eval_unreadable"] == 2
    # Labels 0 1 2 0 1 2 0 1, of which numbers 2 and 5 are lost: three of six are 0.
    assert [figures[f"eval_top1_{budget}"] for budget in (16, 12, 8)] == [0.5] * 3
    assert sum("left out of the evaluation" in text for text in warnings_of_training()) == 2


def test_evaluation_equals_the_processor(tmp_path):
    dataset = load_video_dataset(video_datasets.kinetics(tmp_path / "set", {"val": 3}), "val")
    trainer = tiny_training.trainer(tmp_path / "run", evaluation=dataset)
    (batch,) = trainer.get_eval_dataloader()
    assert [(rows, budget) for _, rows, budget in batch["forwards"]] == [([0, 1, 2], budget) for budget in (16, 12, 8)]
    for group, _, budget in batch["forwards"]:
        expected = tiny_training.processor()(dataset["video"][:], token_budget=budget, return_tensors="pt")
        assert torch.equal(batch["pixel_values_videos"][group], expected["pixel_values_videos"])
    assert len(batch["pixel_values_videos"]) == 2 and batch["labels"].tolist() == [0, 1, 2]


# Streaming


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_a_stream_goes_on_where_it_stopped(tmp_path, workers):
    folder = video_datasets.webdataset(tmp_path / "set", {"train": 10})

    def stream():
        return load_video_dataset(folder, "train", streaming=True, label_names=tiny_training.NAMES)

    options = {
        "dataloader_num_workers": workers,
        "max_steps": 8,
        "shuffle_buffer": 4,
        "changes": {"drop_path_rate": 0.5},
    }

    def run(name, **more):
        set_seed(3)
        return tiny_training.trainer(tmp_path / name, train=stream(), **options | more)

    whole = run("whole")
    whole.train()
    first = run("halves", save_strategy="steps", save_steps=5)
    first.train()
    second = run("halves")
    second.train(resume_from_checkpoint=str(tmp_path / "halves" / "checkpoint-5"))
    assert [entry["loss"] for entry in losses(second)] == [entry["loss"] for entry in losses(whole)]
    assert losses(second)[-1]["step"] == 8


def test_a_stream_covers_all_videos_and_survives_bad_ones(tmp_path, warnings_of_training):
    folder = video_datasets.kinetics(tmp_path / "set", {"train": 6})
    (folder / "train" / "clip 3.mp4").write_bytes(b"no video")
    stream = load_video_dataset(folder, "train", streaming=True, label_names=tiny_training.NAMES)
    trainer = tiny_training.trainer(tmp_path / "run", train=stream, max_steps=6)
    loader = iter(trainer.get_train_dataloader())
    found = [next(loader) for _ in range(3)]
    assert all(len(batch["pixel_values_videos"]) == 2 for batch in found)
    assert {name.split("/")[-1] for batch in found for name in batch["names"]} == {
        f"clip {i}.mp4" for i in (0, 1, 2, 4, 5)
    }
    trainer.train()
    assert len(warnings_of_training()) == 1


def test_attention_of_a_training_is_the_one_asked_for_and_is_not_saved(tmp_path):
    training = tiny_training.trainer(tmp_path, attn_implementation="eager")
    assert training.model.config._attn_implementation == "eager"
    output = training.model(torch.zeros(1, 4, 3, 28, 28), output_attentions=True)
    assert output.attentions[0].shape == (1, 2, 17, 17)
    training.save_model()
    assert FluxViTForVideoClassification.from_pretrained(tmp_path).config._attn_implementation == "sdpa"
    with pytest.raises(ValueError, match="nonsense"):
        tiny_training.trainer(tmp_path, attn_implementation="nonsense")


def test_a_model_with_its_own_attention_has_no_choice_of_it(tmp_path):
    timm = pytest.importorskip("timm")
    model = enable_flux(timm.create_model("vit_tiny_patch16_224", depth=1, img_size=112, num_classes=3))
    with pytest.raises(ValueError, match="attn_implementation: .* has its own attention"):
        FluxTrainer(model=model, args=tiny_training.arguments(tmp_path, attn_implementation="eager"))


# Augmentation


def augmentation(folder, **options) -> ClipAugmentation:
    return ClipAugmentation(tiny_training.arguments(folder, **options), MEAN, STD)


@pytest.mark.parametrize("number", range(12))
def test_all_frames_of_a_clip_get_the_same_draw(tmp_path, number):
    frame = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    augment = augmentation(tmp_path, rand_augment_ops=4, random_colors=True)
    with random_state(number):
        view = augment(np.stack([frame] * 5), 28)
    assert view.shape == (5, 3, 28, 28)
    assert view.dtype == torch.float32
    for other in view[1:]:
        assert torch.equal(view[0], other)
    with random_state(number + 100):
        assert not torch.equal(view, augment(np.stack([frame] * 5), 28))


def test_everything_off_is_a_plain_resize(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (3, 28, 28, 3), dtype=np.uint8)
    augment = augmentation(tmp_path, min_crop_area=1.0, max_crop_aspect=1.0, flip=False, rand_augment_ops=0)
    expected = (torch.from_numpy(frames).permute(0, 3, 1, 2) / 255 - 0.5) / 0.25
    torch.testing.assert_close(augment(frames, 28), expected)


def test_flip_mirrors_half_of_the_clips(tmp_path):
    frames = np.zeros((2, 28, 28, 3), np.uint8)
    frames[:, :, :14] = 255
    options = {"min_crop_area": 1.0, "max_crop_aspect": 1.0, "rand_augment_ops": 0}
    left = {}
    for flip in (False, True):
        augment = augmentation(tmp_path, flip=flip, **options)
        left[flip] = 0
        for number in range(100):
            with random_state(number):
                left[flip] += bool(augment(frames, 28)[0, 0, 0, 0] > 0)
    assert left[False] == 100
    assert 30 < left[True] < 70


def test_random_state_leaves_no_trace():
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    with random_state(1, 2):
        inside = torch.rand(3)
    assert torch.equal(torch.rand(2), expected)
    with random_state(1, 2):
        assert torch.equal(torch.rand(3), inside)


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.8, 0.0), (0.0, 1.0), (0.8, 1.0)])
def test_mixing_gives_soft_targets_that_match_the_pixels(mixup, cutmix):
    torch.manual_seed(0)
    clips = torch.arange(4.0).view(4, 1, 1, 1, 1).expand(4, 3, 3, 20, 20).clone()
    mixed, soft = mix_batch(clips, torch.arange(4), 4, mixup, cutmix)
    assert mixed.shape == clips.shape
    torch.testing.assert_close(soft.sum(-1), torch.ones(4))
    # Clip i is full of the number i, so its mean after mixing is the mean of the labels.
    torch.testing.assert_close(mixed.mean((1, 2, 3, 4)), soft @ torch.arange(4.0), atol=1e-5, rtol=0)
    assert (soft.max(-1).values < 1).any()


def test_no_mixing_leaves_labels_hard():
    labels = torch.arange(3)
    assert mix_batch(torch.zeros(3, 1, 3, 4, 4), labels, 3, 0.0, 0.0)[1] is labels


# Optimiser, average, freezing


def test_learning_rates_and_decay_of_every_parameter():
    model = tiny_training.model()
    groups = parameter_groups(model, model.named_parameters(), learning_rate=1.0, weight_decay=0.1, layer_decay=0.5)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = {names[id(p)]: (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    assert found.keys() == dict(model.named_parameters()).keys()
    embeddings, layers = "fluxvit.embeddings.", "fluxvit.encoder.layers."
    assert found[embeddings + "patch_embedding.projection.weight"] == (0.125, 0.1)
    assert found[embeddings + "cls_token"] == found[embeddings + "position_embedding.table"] == (0.125, 0.0)
    assert found[embeddings + "position_embedding.cls"] == (0.125, 0.0)
    assert found[embeddings + "position_embedding.weight"] == (1.0, 0.0)
    assert found[layers + "0.mlp.up.weight"] == (0.25, 0.1)
    assert found[layers + "1.mlp.up.weight"] == (0.5, 0.1)
    assert found[layers + "1.attention.local_position.weight"] == (0.5, 0.0)
    assert found["fluxvit.poolers.2.query.weight"] == found["classifier.heads.0.weight"] == (1.0, 0.1)
    for name, (_, decay) in found.items():
        if "norm" in name or "bias" in name or "scale" in name:
            assert decay == 0.0, name


def test_the_trainer_uses_these_groups(tmp_path):
    trainer = tiny_training.trainer(tmp_path, layer_decay=0.5, learning_rate=1e-3)
    trainer.train()
    rates = sorted({group["initial_lr"] for group in trainer.optimizer.param_groups})
    assert rates == pytest.approx([1.25e-4, 2.5e-4, 5e-4, 1e-3])


def test_frozen_backbone(tmp_path):
    trainer = tiny_training.trainer(tmp_path, freeze="backbone", changes={"drop_path_rate": 0.5})
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.train()
    changed = {name for name, value in trainer.model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed
    assert all(name.startswith(("fluxvit.poolers", "classif", "alignment")) for name in changed)
    assert [layer.drop_path_rate for layer in trainer.model.fluxvit.encoder.layers] == [0.0, 0.0]


@pytest.mark.long
def test_moving_average_by_hand_and_over_a_restart(tmp_path):
    set_seed(0)
    trainer = tiny_training.trainer(tmp_path, ema_decay=0.7, max_steps=4, save_strategy="steps", save_steps=1)
    average = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.train()
    for step in range(1, 5):
        weights = FluxViTForVideoClassification.from_pretrained(tmp_path / f"checkpoint-{step}").state_dict()
        average = {name: 0.7 * value + 0.3 * weights[name] for name, value in average.items()}
    trainer.save_model(tmp_path / "saved")
    saved = FluxViTForVideoClassification.from_pretrained(tmp_path / "saved").state_dict()
    for name, value in saved.items():
        torch.testing.assert_close(value, average[name], atol=1e-6, rtol=1e-5)
        assert torch.equal(trainer.model.state_dict()[name], weights[name])
    assert (tmp_path / "checkpoint-2" / FILE_NAME).exists()

    set_seed(0)
    again = tiny_training.trainer(tmp_path, ema_decay=0.7, max_steps=4)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    again.save_model(tmp_path / "resumed")
    resumed = FluxViTForVideoClassification.from_pretrained(tmp_path / "resumed").state_dict()
    for name, value in saved.items():
        assert torch.equal(value, resumed[name]), name


@pytest.mark.parametrize(
    ("option", "value"),
    [("layer_decay", 1.5), ("views_per_video", 0), ("token_budgets", [0]), ("freeze", "head"), ("mixup_alpha", -1.0)],
)
def test_arguments_that_make_no_sense(tmp_path, option, value):
    with pytest.raises(ValueError, match=option):
        tiny_training.arguments(tmp_path, **{option: value})


# The card


def test_the_card_says_how_it_was_trained_and_how_good_it_is(tmp_path):
    trainer = tiny_training.trainer(tmp_path / "mine", evaluation=tiny_training.clips(6), hub_token="hf_secret", seed=7)
    trainer.train()
    top1 = trainer.evaluate()["eval_top1_16"]
    trainer.create_model_card(dataset="someone/clips", finetuned_from="someone/fluxvit")
    text = (tmp_path / "mine" / "README.md").read_text()
    card = ModelCard(text)
    assert (card.data.datasets, card.data.base_model) == (["someone/clips"], "someone/fluxvit")
    recipe = yaml.safe_load(text.partition("```yaml")[2].partition("```")[0])
    assert (recipe["seed"], recipe["max_steps"], recipe["max_frames"]) == (7, 2, 8)
    assert "flip" not in recipe and "hf_secret" not in text
    assert f"eval_top1_16 {top1:.4g}" in text
