"""Flux-UMT training: its loss, what reaches whom, what is saved, going on, caching, mixtures, and the commands."""

import json

import numpy as np
import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from safetensors.torch import load_file
from torch.utils.data import Dataset
from transformers import set_seed

from flux_hf import FluxViTConfig, FluxViTForPreTraining, FluxViTForVideoClassification
from flux_hf.data import CachedClips, load_video_dataset
from flux_hf.pretraining import FluxPreTrainer, load_teacher
from flux_hf.pretraining.masking import gumbel_noise, student_masks, teacher_mask
from flux_hf.pretraining.mixture import load_mixture, mixed_order
from flux_hf.pretraining.pretraining import PretrainOptions, student
from flux_hf.pretraining.pretraining import pretrain as run_pretraining
from flux_hf.pretraining.teacher_cache import TeacherCache
from flux_hf.scripts import finetune, pretrain
from flux_hf.training.augmentation import multi_scale_crop, random_state
from tests import tiny_pretraining, tiny_training, video_datasets
from tests.older_names import with_older_names

PARTS = [f"{part}_{budget}" for budget in (16, 12, 8) for part in ("layer2", "pooled")]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return tiny_pretraining.teacher_folder(tmp_path_factory.mktemp("teacher"))


def losses(trainer) -> list[dict]:
    return [entry for entry in trainer.state.log_history if "loss" in entry]


def test_the_loss_of_a_step_computed_plainly(tmp_path, teacher):
    trainer = tiny_pretraining.trainer(tmp_path, teacher)
    batch = next(iter(trainer.get_train_dataloader()))
    model = trainer.model.eval()
    loss = trainer.compute_loss(model, batch)
    pixels = batch["pixel_values_videos"]
    seen = teacher_mask(model.get_input_embeddings().patchify(pixels), 16)
    targets = trainer.teacher(pixels, seen, [4])
    noise = gumbel_noise(trainer.args.seed, 0, batch["keys"], 16)
    terms = []
    for index, mask in enumerate(student_masks(seen, targets.saliency, noise, [16, 12, 8])[0]):
        states = model.fluxvit(pixels, keep_mask=mask, head_index=index, output_hidden_states=True)
        feature = model.layer_decoders[0](states.hidden_states[2][:, 1:])
        full = torch.zeros(*seen.shape, 48)
        full[seen] = targets.layers[0].flatten(0, 1)
        layer = 2 - 2 * (feature.flatten(0, 1) * full[mask]).sum(-1).mean()
        pooled = 2 - 2 * (model.pooled_decoder(states.pooler_output) * targets.pooled).sum(-1).mean()
        terms.append(layer + pooled)
    torch.testing.assert_close(loss, sum(terms) / 3)


def test_the_log_holds_every_term_and_where_the_time_went(tmp_path, teacher):
    trainer = tiny_pretraining.trainer(tmp_path, teacher, gradient_accumulation_steps=2)
    trainer.train()
    assert len(losses(trainer)) == 2
    for entry in losses(trainer):
        assert {name for name in entry if name.startswith(("layer", "pooled"))} == set(PARTS)
        assert entry["loss"] == pytest.approx(sum(entry[name] for name in PARTS) / 3, rel=1e-5)
        assert 0 < entry["teacher_seconds"] < entry["step_seconds"]
        assert entry["data_seconds"] > 0


def test_training_learns_and_leaves_the_teacher_alone(tmp_path, teacher):
    set_seed(0)
    trainer = tiny_pretraining.trainer(tmp_path, teacher, max_steps=25, learning_rate=5e-3, save_strategy="steps")
    before = {name: value.clone() for name, value in trainer.teacher.model.state_dict().items()}
    assert "teacher" not in " ".join(name for name, _ in trainer.model.named_modules())
    trainer.train()
    assert losses(trainer)[-1]["loss"] < 0.7 * losses(trainer)[0]["loss"]
    for name, value in trainer.teacher.model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert not [name for name, p in trainer.teacher.model.named_parameters() if p.requires_grad or p.grad is not None]
    optimised = {id(p) for group in trainer.optimizer.param_groups for p in group["params"]}
    assert not optimised & {id(p) for p in trainer.teacher.model.parameters()}
    assert optimised == {id(p) for p in trainer.model.parameters()}
    trainer.save_model()
    for folder in (tmp_path, tmp_path / "checkpoint-25"):
        saved = load_file(folder / "model.safetensors")
        assert saved.keys() == with_older_names(trainer.model.state_dict()).keys()
        assert all(name.startswith(("fluxvit.", "layer_decoders.0", "pooled_decoder")) for name in saved)


def test_targets_are_computed_once_for_all_budgets(tmp_path, teacher):
    trainer = tiny_pretraining.trainer(tmp_path, teacher)
    calls = []
    trainer.teacher.model.register_forward_hook(lambda *_: calls.append(1))
    trainer.train()
    assert len(calls) == 2


def test_any_torch_data_set_with_clips(tmp_path, teacher):
    class Noise(Dataset):
        def __len__(self):
            return 4

        def __getitem__(self, index):
            return {"pixel_values_videos": torch.randn(4, 3, 42, 42, generator=torch.Generator().manual_seed(index))}

    trainer = tiny_pretraining.trainer(tmp_path, teacher, train=Noise())
    trainer.train()
    assert len(losses(trainer)) == 2


@pytest.mark.long
def test_resumed_equals_straight(tmp_path, teacher):
    options = {"max_steps": 8, "changes": {"drop_path_rate": 0.5}}

    def run(name, **more):
        set_seed(3)
        return tiny_pretraining.trainer(tmp_path / name, teacher, **options | more)

    whole = run("whole")
    whole.train()
    run("halves", save_strategy="steps", save_steps=5).train()
    second = run("halves")
    second.train(resume_from_checkpoint=str(tmp_path / "halves" / "checkpoint-5"))
    assert [entry["loss"] for entry in losses(second)] == [entry["loss"] for entry in losses(whole)]
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name]), name


@pytest.mark.long
def test_cached_outputs_spare_the_teacher_and_change_little(tmp_path, teacher):
    def run(name, **more):
        set_seed(0)
        trainer = tiny_pretraining.trainer(tmp_path / name, teacher, max_steps=12, view_epochs=1, **more)
        calls = []
        trainer.teacher.model.register_forward_hook(lambda *_: calls.append(1))
        trainer.train()
        return trainer, len(calls)

    plain, calls = run("plain")
    assert calls == 12
    cached, calls = run("cached", teacher_cache=str(tmp_path / "cache"))
    assert calls == 6
    assert len(list((tmp_path / "cache").glob("*/*.safetensors"))) == 12
    for one, other in zip(losses(plain), losses(cached), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=2e-2)
    again, calls = run("again", teacher_cache=str(tmp_path / "cache"))
    assert calls == 0
    assert [entry["loss"] for entry in losses(again)] == [entry["loss"] for entry in losses(cached)]
    other, calls = run("other", teacher_cache=str(tmp_path / "cache"), layers=[3])
    assert calls == 6


def test_a_cache_belongs_to_weights_configuration_and_precision(tmp_path, teacher):
    def folder(loaded, **options):
        return TeacherCache(tmp_path, loaded, [2], 16, **options).folder

    loaded = load_teacher(str(teacher), patch_size=14, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    first = folder(loaded)
    assert folder(loaded) == first
    assert folder(loaded, mixed_precision="bf16") != first
    assert folder(loaded, token_selection="group_dynamic") == first
    assert folder(loaded, token_selection="uniform") != first
    with pytest.raises(ValueError, match="teacher_cache excludes token_selection 'tube'"):
        folder(loaded, token_selection="tube")
    loaded.model.config.num_attention_heads = 2
    assert folder(loaded) != first


def test_views_repeat_but_the_tokens_drawn_do_not(tmp_path, teacher):
    trainer = tiny_pretraining.trainer(tmp_path, teacher, view_epochs=2, max_steps=18)
    seen = []
    compute_loss = trainer.compute_loss

    def noting(model, inputs, **kwargs):
        seen.append((inputs["names"], inputs["pixel_values_videos"].sum().item(), inputs["keys"]))
        return compute_loss(model, inputs, **kwargs)

    trainer.compute_loss = noting
    trainer.train()
    assert seen[:6] == seen[12:]
    assert seen[:6] != seen[6:12]


def test_frames_of_a_part_of_each_video(tmp_path, teacher):
    trainer = tiny_pretraining.trainer(tmp_path, teacher, min_clip_span=0.25)
    make_views, reach = trainer.view_maker(tiny_training.NAMES[:1]), []

    def read(choose):
        numbers = choose(60)
        reach.append(numbers[-1] - numbers[0])
        return np.zeros((4, 28, 28, 3), np.uint8)

    for number in range(100):
        make_views(read, 0, (4, 28), (number,))
    assert min(reach) < 20 and max(reach) > 40


def test_videos_left_out_of_every_period_are_counted(tmp_path, teacher, warnings_of_training):
    trainer = tiny_pretraining.trainer(tmp_path, teacher, view_epochs=1, per_device_train_batch_size=5)
    trainer.get_train_dataloader()
    (message,) = warnings_of_training()
    assert message.startswith("2 of 12 videos do not fill a step") and "again after 1 (view_epochs)" in message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"token_budgets": [32]}, "teacher_tokens"),
        ({"teacher_tokens": 0}, "teacher_tokens"),
        ({"teacher_cache": "x"}, "view_epochs"),
        ({"eval_strategy": "epoch"}, "eval_strategy"),
        ({"multi_scale_crop": [1.5]}, "multi_scale_crop"),
    ],
)
def test_arguments_that_make_no_sense(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        tiny_pretraining.arguments(tmp_path, **options)


def test_a_student_that_does_not_fit_the_teacher(tmp_path, teacher):
    with pytest.raises(ValueError, match=r"teacher_hidden_size.*\(48, 24\)"):
        tiny_pretraining.trainer(tmp_path, teacher, changes={"teacher_hidden_size": 32})
    with pytest.raises(ValueError, match=r"teacher_layers must be 1 numbers in 1\.\.4"):
        tiny_pretraining.trainer(tmp_path, teacher, layers=[5])
    with pytest.raises(ValueError, match="different and descending"):
        tiny_pretraining.trainer(tmp_path, teacher, token_budgets=[16, 16])


def test_a_student_has_the_heads_that_are_trained(tmp_path, teacher):
    trainer = tiny_pretraining.trainer(tmp_path, teacher, token_budgets=[12])
    trainer.train()
    trainer.save_model()
    saved = FluxViTForPreTraining.from_pretrained(tmp_path)
    assert saved.config.head_token_budgets == [12] and len(saved.fluxvit.poolers) == 1
    assert all(value.equal(trainer.model.state_dict()[name]) for name, value in saved.state_dict().items())


@pytest.mark.parametrize("layers", [[2, 1], [3]])
def test_layers_that_no_student_has_are_refused_for_checkpoints_too(tmp_path, teacher, layers):
    tiny_pretraining.student().save_pretrained(tmp_path / "checkpoint")
    options = PretrainOptions(
        dataset=["a"], teacher=str(teacher), model=str(tmp_path / "checkpoint"), student_layers=layers
    )
    loaded = load_teacher(str(teacher), patch_size=14, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    with pytest.raises(Exception, match="aligned_layers"):
        student(options, FluxViTConfig.from_pretrained(options.model), loaded)


def test_a_checkpoint_gets_the_decoders_of_this_teacher(tmp_path, teacher):
    first = tiny_pretraining.student(teacher_hidden_size=32)
    first.save_pretrained(tmp_path / "checkpoint")
    options = PretrainOptions(
        dataset=["a"], teacher=str(teacher), model=str(tmp_path / "checkpoint"), student_layers=[1]
    )
    loaded = load_teacher(str(teacher), patch_size=14, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    model = student(options, FluxViTConfig.from_pretrained(options.model), loaded)
    assert (model.aligned_layers, model.config.teacher_hidden_size) == ([1], 48)
    assert all(value.equal(first.fluxvit.state_dict()[name]) for name, value in model.fluxvit.state_dict().items())


@pytest.mark.parametrize(
    "given", [{"view_epochs": 1}, {"view_epochs": 1, "teacher_cache": "cache"}, {"weights": [1.0]}]
)
def test_data_sets_whose_views_have_no_numbers_are_refused(tmp_path, teacher, given):
    given, weights = dict(given), given.get("weights")
    given.pop("weights", None)
    folder = video_datasets.videofolder(tmp_path / "set", {"train": 2})
    stream = load_mixture([str(folder)], ["train"], streaming=True)
    clips = [{"pixel_values_videos": torch.zeros(8, 3, 28, 28)}] * 4
    for train, reason in ((stream, "streamed"), (clips, "not list")):
        with pytest.raises(ValueError, match=reason):
            FluxPreTrainer(
                model=tiny_pretraining.student(),
                args=tiny_pretraining.arguments(tmp_path, **given),
                train_dataset=train,
                processing_class=tiny_training.processor(),
                teacher=load_teacher(str(teacher), patch_size=14, image_mean=[0.5] * 3, image_std=[0.5] * 3),
                weights=weights,
            )


def test_the_card_says_what_was_distilled_and_how_to_fine_tune_it(tmp_path, teacher):
    trainer = tiny_pretraining.trainer(tmp_path / "mine", teacher, seed=7)
    trainer.train()
    trainer.create_model_card(dataset=["someone/clips", "other/clips"], teacher="someone/teacher")
    text = (tmp_path / "mine" / "README.md").read_text()
    card = ModelCard(text)
    assert card.data.datasets == ["other/clips", "someone/clips"]
    assert card.data.pipeline_tag == "feature-extraction"
    recipe = yaml.safe_load(text.partition("```yaml")[2].partition("```")[0])
    assert (recipe["teacher"], recipe["seed"], recipe["max_steps"]) == ("someone/teacher", 7, 2)
    assert "flux-hf finetune" in text and "accuracy" not in text


# Mixtures


def test_shares_and_every_video_equally_often():
    order = mixed_order([0] * 8 + [1] * 4, [1.0, 3.0], seed=0)
    drawn = [order(epoch) for epoch in range(8)]
    assert {len(each) for each in drawn} == {12}
    for each in drawn:
        assert sum(video >= 8 for video in each) == 9
    counts = np.bincount(np.concatenate(drawn), minlength=12)
    assert counts[:8].tolist() == [3] * 8
    assert counts[8:].tolist() == [18] * 4
    assert drawn[0] != drawn[1]
    assert order(3) == mixed_order([0] * 8 + [1] * 4, [1.0, 3.0], seed=0)(3)


def test_videos_that_come_again_in_an_epoch_are_other_views(tmp_path, teacher):
    clips = tiny_training.clips()
    source = CachedClips(clips.clips, np.array([0] * 10 + [1] * 2), ["one", "two"], clips.video_names)
    trainer = tiny_pretraining.trainer(tmp_path, teacher, train=source, weights=[1.0, 1.0])
    keys, views = [], []
    for batch in trainer.get_train_dataloader():
        keys += batch["keys"]
        views += [view.numpy().tobytes() for view in batch["pixel_values_videos"]]
    assert len(set(keys)) == len(set(views)) == 12


def test_a_weight_that_gives_no_clip_is_refused():
    with pytest.raises(ValueError, match=r"give data set 2 none of the 1050 clips of an epoch"):
        mixed_order([0] * 1000 + [1] * 50, [3000.0, 1.0], seed=0)


def test_each_data_set_is_mirrored_or_not_by_itself(tmp_path, teacher):
    pixels = np.zeros((12, 10, 48, 48, 3), np.uint8)
    pixels[..., :24, :] = 255
    source = CachedClips(pixels, np.arange(12) % 2, ["one", "two"], [f"clip {i}" for i in range(12)])
    trainer = tiny_pretraining.trainer(tmp_path, teacher, train=source, multi_scale_crop=[1.0])
    trainer.flips = [True, False]
    mirrored = {0: 0, 1: 0}
    views = trainer.view_maker(["one", "two"])
    for number in range(30):
        for label in (0, 1):
            ((clip,), _) = views(lambda choose: source.read(0, choose), label, (4, 28), (number,))  # noqa: B023
            mirrored[label] += bool(clip[0, 0, 0, 0] < clip[0, 0, 0, -1])
    assert mirrored[1] == 0
    assert 5 < mirrored[0] < 25


def test_data_sets_of_all_layouts_without_reading_labels(tmp_path):
    folders = [
        video_datasets.kinetics(tmp_path / "kinetics", {"train": 3}),
        video_datasets.coin(tmp_path / "coin", {"train": 2}),
        video_datasets.parquet(tmp_path / "parquet", {"train": 2}),
    ]
    (tmp_path / "bare" / "train").mkdir(parents=True)
    video_datasets.write_video(tmp_path / "bare" / "train" / "a.mp4", 1)
    folders = [str(folder) for folder in (*folders, tmp_path / "bare")]
    mixture = load_mixture(folders, ["train"])
    assert mixture["label"][:] == [0, 0, 0, 1, 1, 2, 2, 3]
    assert mixture.features["label"].names == folders
    assert mixture["start"][:] == [None] * 3 + [0.4] * 2 + [None] * 3
    assert mixture.column_names == ["video", "start", "end", "label"]
    stream = load_mixture(folders[:2], ["train"], streaming=True)
    rows = list(stream)
    assert {row["label"] for row in rows} == {0, 1}
    assert {row["start"] for row in rows} == {None, 0.4}
    with pytest.raises(ValueError, match="has no labels"):
        load_video_dataset(tmp_path / "bare", "train")
    with pytest.raises(ValueError, match="comes twice"):
        load_mixture(folders[:1] * 2, ["train"])


def test_multi_scale_crop_takes_one_of_thirteen_places():
    rows, columns = torch.meshgrid(torch.arange(48.0), torch.arange(64.0), indexing="ij")
    clip = torch.stack([rows, columns])[None]
    boxes = set()
    for number in range(400):
        with random_state(number):
            view = multi_scale_crop(clip, 24, [1.0, 0.5])
        assert view.shape == (1, 2, 24, 24)
        top, bottom = view[0, 0, 0, 0].item(), view[0, 0, -1, 0].item()
        left, right = view[0, 1, 0, 0].item(), view[0, 1, 0, -1].item()
        boxes.add((round(bottom - top), round(right - left), round((top + bottom) / 2), round((left + right) / 2)))
    sides = {(height, width) for height, width, _, _ in boxes}
    assert sides == {(46, 46), (46, 23), (23, 46), (23, 23)}
    small = {(row, column) for height, width, row, column in boxes if (height, width) == (23, 23)}
    assert len(small) == 13


# Commands


def options_of(tmp_path, teacher, **changes) -> list[str]:
    (tmp_path / "config.json").write_text(json.dumps(tiny_training.model().config.to_dict()))
    args = tiny_pretraining.arguments(tmp_path / "student")
    names = ("min_frames", "max_frames", "min_size", "max_size", "size_step", "min_pool_tokens", "max_pool_tokens")
    options = {name: getattr(args, name) for name in names} | {
        "model_config": tmp_path / "config.json",
        "teacher": teacher,
        "teacher_tokens": 16,
        "output_dir": tmp_path / "student",
        "max_steps": 2,
        "per_device_train_batch_size": 2,
        "logging_steps": 1,
        "save_strategy": "no",
        "use_cpu": True,
        "disable_tqdm": True,
    }
    return [f"--{name}={value}" for name, value in (options | changes).items()]


def test_pretrain_then_probe(tmp_path, teacher):
    folder = video_datasets.kinetics(tmp_path / "set", {"train": 4, "val": 3})
    other = video_datasets.videofolder(tmp_path / "other", {"train": 3})
    pretrain.main(
        [
            *options_of(tmp_path, teacher),
            *("--dataset", str(folder), str(other), "--dataset_weights", "1", "2"),
            *("--dataset_without_flip", str(other), "--token_budgets", "16", "8"),
        ]
    )
    student = FluxViTForPreTraining.from_pretrained(tmp_path / "student")
    assert student.config.teacher_hidden_size == 48
    assert student.config.aligned_layers == [2]
    assert student.config.head_token_budgets == [16, 8]

    names = ("min_frames", "max_frames", "min_size", "max_size", "size_step", "min_pool_tokens", "max_pool_tokens")
    args = tiny_pretraining.arguments(tmp_path / "probe")
    options = {name: getattr(args, name) for name in names} | {
        "dataset": folder,
        "labels_file": folder / "labels.txt",
        "eval_split": "val",
        "model": tmp_path / "student",
        "freeze": "backbone",
        "output_dir": tmp_path / "probe",
        "max_steps": 2,
        "per_device_train_batch_size": 2,
        "num_frames": 4,
        "size": 42,
        "save_strategy": "no",
        "use_cpu": True,
        "disable_tqdm": True,
    }
    finetune.main([f"--{name}={value}" for name, value in options.items()])
    probe = FluxViTForVideoClassification.from_pretrained(tmp_path / "probe")
    assert probe.config.id2label == dict(enumerate(video_datasets.CLASSES))
    weights = student.fluxvit.state_dict()
    frozen = [name for name in weights if name.startswith(("embeddings", "encoder"))]
    assert frozen
    for name in frozen:
        assert torch.equal(weights[name], probe.fluxvit.state_dict()[name]), name
    assert not torch.equal(student.fluxvit.poolers[0].query.weight, probe.fluxvit.poolers[0].query.weight)


@pytest.mark.long
def test_pretrain_counts_clips_keeps_off_other_runs_and_goes_on(tmp_path, teacher, capsys):
    folders = [
        video_datasets.videofolder(tmp_path / name, {"train": count}) for name, count in (("one", 4), ("two", 3))
    ]
    command = [*options_of(tmp_path, teacher, save_strategy="steps", save_steps=1), "--dataset", *map(str, folders)]
    pretrain.main(command)
    *_, said, following = lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in lines[:4]] == ["train", "4", "3", "7"]
    student = str(tmp_path / "student")
    assert student in said and following.strip() == f"flux-hf finetune RECIPE --model {student} --dataset DATASET"
    with pytest.raises(ValueError, match="output_dir .*student already holds checkpoints"):
        pretrain.main(command)
    pretrain.main([*command, "--max_steps=3", "--resume_from_checkpoint", "last"])
    state = json.loads((tmp_path / "student" / "trainer_state.json").read_text())
    assert [entry["step"] for entry in state["log_history"] if "loss" in entry] == [1, 2, 3]
    pretrain.main([*command, "--max_steps=1", "--overwrite"])
    assert [path.name for path in (tmp_path / "student").glob("checkpoint-*")] == ["checkpoint-1"]


def test_pretrain_streams_several_sets(tmp_path, teacher):
    folders = [
        str(video_datasets.kinetics(tmp_path / "one", {"train": 4})),
        str(video_datasets.kinetics(tmp_path / "two", {"train": 4})),
    ]
    pretrain.main([*options_of(tmp_path, teacher, streaming=True), "--dataset", *folders])
    history = json.loads((tmp_path / "student" / "trainer_state.json").read_text())["log_history"]
    assert len([entry for entry in history if "loss" in entry]) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_config": None}, "model_config"),
        ({"streaming": True, "cache_dir": "x"}, "cache_dir"),
        ({"cache_dir": "x", "snap_to_keyframes": True}, "--snap_to_keyframes .* --cache_dir"),
        ({"dataset_without_flip": ["b"]}, "--dataset_without_flip names no data set of --dataset: b"),
        ({"dataset_weights": [1.0, 2.0]}, "dataset_weights"),
    ],
)
def test_options_that_make_no_sense(tmp_path, changes, message):
    settings = {"dataset": ["a"], "teacher": "t", "model_config": "c"} | changes
    training = {name: settings.pop(name) for name in ("snap_to_keyframes",) if name in settings}
    with pytest.raises(ValueError, match=message):
        run_pretraining(PretrainOptions(**settings), tiny_pretraining.arguments(tmp_path, **training))
