"""What finetune prints, what it does not write over, how it goes on after Ctrl-C and without a validation split."""

import json
import logging
import os
import shlex
import shutil
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Value
from safetensors.torch import load_file
from transformers import TrainerState

from flux_hf import FluxVideoProcessor
from flux_hf.scripts import classify, evaluate_checkpoint, finetune, pretrain
from flux_hf.training import FluxTrainingArguments, finetuning
from flux_hf.training.finetuning import FinetuneOptions, load_splits
from flux_hf.training.output_folder import checkpoint_to_resume, interruptible, prepare_output_dir
from flux_hf.training.progress import ProgressLines, device_line, loading_advice
from flux_hf.training.splits import check_classes, clip_table, keep_share
from flux_hf.training.starting_model import starting_model
from tests import tiny_pretraining, tiny_training, video_datasets

GRIDS = ("min_frames", "max_frames", "min_size", "max_size", "size_step", "min_pool_tokens", "max_pool_tokens")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Six training clips of three classes, three to evaluate on."""
    return video_datasets.videofolder(tmp_path_factory.mktemp("set"), {"train": 6, "validation": 3})


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A checkpoint of a tiny model with other labels."""
    folder = tmp_path_factory.mktemp("start")
    torch.manual_seed(0)
    tiny_training.model().save_pretrained(folder)
    tiny_training.processor().save_pretrained(folder)
    return folder


@pytest.fixture
def command(dataset, start, tmp_path):
    """Call it with options that differ."""
    grids = {name: getattr(tiny_training.arguments(tmp_path), name) for name in GRIDS}

    def run(*words: str, **changes) -> None:
        options = grids | {"dataset": dataset, "model": start, "output_dir": tmp_path / "run", "use_cpu": True}
        options |= {"max_steps": 2, "per_device_train_batch_size": 2, "save_strategy": "no", "report_to": "none"}
        finetune.main([*(f"--{name}={value}" for name, value in (options | changes).items()), *words])

    return run


@pytest.fixture
def load_reports():
    """Call it for what Transformers says about weights that do not fit."""
    messages, handler = [], logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    logging.getLogger("transformers").addHandler(handler)
    yield lambda: [message for message in messages if "LOAD REPORT" in message]
    logging.getLogger("transformers").removeHandler(handler)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def test_the_first_run_from_the_table_to_the_next_commands(command, dataset, tmp_path, capfd, load_reports):
    command(eval_strategy="steps", eval_steps=1, logging_steps=1)
    printed = capfd.readouterr()
    # Whether a step waits for its clips, and so says what helps, is up to the machine.
    lines = [line for line in printed.out.splitlines() if "--dataloader_num_workers" not in line]
    assert [line.split() for line in lines[:5]] == [
        ["clips", "train", "validation"],
        ["jumping", "2", "1"],
        ["playing", "a", "flute", "2", "1"],
        ["running", "2", "1"],
        ["all", "6", "3"],
    ]
    history = json.loads((tmp_path / "run" / "trainer_state.json").read_text())["log_history"]
    last = next(entry for entry in reversed(history) if "eval_top1_16" in entry)
    top1 = [f"{100 * last[f'eval_top1_{budget}']:.1f} % at {budget}" for budget in (16, 12, 8)]
    assert f"3 clips: {top1[0]} tokens, {top1[1]}, {top1[2]}" in lines[-4]
    assert str(tmp_path / "run") in lines[-3]
    losses = [entry["loss"] for entry in history if "loss" in entry]
    assert lines[5] == "training on cpu in float32"
    assert [f"loss {loss:.4g}" in line for loss, line in zip(losses, lines[6:10:2], strict=True)] == [True, True]
    assert "{" not in printed.out  # no dictionaries

    assert load_reports() == []
    assert not [bar for bar in ("Loading", "Generating", "Downloading", "Writing") if bar in printed.err]

    evaluating, classifying = (shlex.split(line)[1:] for line in lines[-2:])
    assert (evaluating.pop(0), classifying.pop(0)) == ("evaluate", "classify")
    evaluate_checkpoint.main(evaluating)
    table = capfd.readouterr().out
    rows = {row.split(" | ")[0]: row for row in table.splitlines()}
    for budget in (16, 12, 8):
        assert f"| {100 * last[f'eval_top1_{budget}']:.1f} (" in rows[f"| {budget}"]
    classify.main(classifying)
    assert any(name in capfd.readouterr().out for name in video_datasets.CLASSES)


@pytest.mark.filterwarnings("error:.*pin_memory")
def test_without_a_validation_split_training_goes_on_and_nothing_is_evaluated(
    command, dataset, tmp_path, capsys, warnings_of_training
):
    shutil.copytree(dataset / "train", tmp_path / "set" / "train")
    command(dataset=tmp_path / "set", eval_strategy="epoch")
    assert (tmp_path / "run" / "config.json").exists()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in (lines[0], lines[4])] == [["clips", "train"], ["all", "6"]]
    assert "flux-hf evaluate" not in "".join(lines) and "% at" not in "".join(lines)
    (warning,) = [message for message in warnings_of_training() if "validation" in message]
    assert "has no split 'validation', it has train" in warning and "--validation_share" in warning
    with pytest.raises(ValueError, match=r"--eval_split: .* has no split 'dev', it has train"):
        command(dataset=tmp_path / "set", output_dir=tmp_path / "other", eval_split="dev")


@pytest.mark.parametrize("cached", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_share_of_the_training_clips_is_kept_back(command, dataset, tmp_path, capsys, cached):
    shutil.copytree(dataset / "train", tmp_path / "set" / "train")
    cache = {"cache_dir": tmp_path / "cache", "cached_frames": 8, "cached_size": 42} if cached else {}
    command(dataset=tmp_path / "set", validation_share=0.4, max_steps=1, **cache)
    lines = capsys.readouterr().out.splitlines()
    assert lines[4].split() == ["all", "3", "3"]
    assert "3 clips: " in lines[-3] and "flux-hf classify" in lines[-1]
    assert "flux-hf evaluate" not in "".join(lines)  # no split holds the clips that were kept back
    with pytest.raises(ValueError, match="--streaming .* cannot be combined with --validation_share"):
        command(validation_share=0.5, streaming=True)
    with pytest.raises(ValueError, match="--validation_share .*, --eval_split dev .*: give one of them"):
        command(validation_share=0.5, eval_split="dev")


def test_a_run_that_could_not_end_well_does_not_begin(dataset, start, tmp_path, monkeypatch):
    monkeypatch.setattr(finetuning, "load_splits", lambda *_: pytest.fail("the clips were loaded"))
    (tmp_path / "file").touch()
    training = {"max_steps": 1, "use_cpu": True}
    options = FinetuneOptions(dataset=str(dataset), model=str(start))
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ValueError, match=f"--output_dir {folder}: {tmp_path / 'file'} is a file"):
            finetuning.finetune(options, FluxTrainingArguments(str(folder), **training))
    with pytest.raises(ValueError, match="--num_train_epochs must be above 0 where --max_steps is not given, got 0"):
        finetuning.finetune(options, FluxTrainingArguments(str(tmp_path), num_train_epochs=0, use_cpu=True))
    with pytest.raises(ValueError, match="nothing to start from: give a RECIPE"):
        finetuning.finetune(FinetuneOptions(dataset=str(dataset)), FluxTrainingArguments(str(tmp_path), **training))


def test_the_first_loss_says_what_it_is_the_sum_of():
    lines = ProgressLines()
    lines.explained = False
    parts = {"loss": 3.0, "loss_16": 2.0, "alignment_8": 1.0}
    assert lines._explained(parts) == "; the loss is the sum of loss_16 2, alignment_8 1"
    assert lines._explained(parts) == ""


def test_a_run_that_waits_for_its_clips_says_once_what_helps(command, tmp_path, capsys):
    command(max_steps=3, logging_steps=1, dataloader_num_workers=0)
    state = TrainerState.load_from_json(tmp_path / "run" / "trainer_state.json")
    steps = [entry for entry in state.log_history if "step_seconds" in entry]
    waited = any(entry["data_seconds"] > 2 * entry["step_seconds"] for entry in steps)
    assert capsys.readouterr().out.count("--cache_dir DIR") == waited


def test_advice_on_loading_fits_the_data():
    slow = {"data_seconds": 1.5, "step_seconds": 0.5}
    for can_cache in (True, False):
        advice = loading_advice(slow, can_cache)
        assert "--dataloader_num_workers N" in advice and ("--cache_dir DIR" in advice) == can_cache
    assert loading_advice({"data_seconds": 0.9, "step_seconds": 0.5}, True) is None
    assert loading_advice({"eval_top1_64": 0.5}, True) is None


@pytest.mark.parametrize("can_cache", [True, False])
def test_advice_on_loading_comes_once(tmp_path, capsys, can_cache):
    lines, state = ProgressLines(can_cache), TrainerState(max_steps=3)
    lines.on_train_begin(FluxTrainingArguments(str(tmp_path), use_cpu=True), state, None)
    slow = {"loss": 1.0, "learning_rate": 0.1, "data_seconds": 1.5, "step_seconds": 0.5}
    for waits in (0.1, 1.5, 1.5):
        lines.on_log(None, state, None, logs=slow | {"data_seconds": waits})
    printed = capsys.readouterr().out
    assert printed.count("--dataloader_num_workers") == 1 and printed.count("--cache_dir") == can_cache


def test_an_idle_gpu_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    args = FluxTrainingArguments(str(tmp_path), use_cpu=True, bf16=True)
    assert device_line(args) == "training on cpu in bf16 because of use_cpu, although there is a GPU"


def labelled(labels: list[int]) -> Dataset:
    features = Features({"number": Value("int64"), "label": ClassLabel(num_classes=4)})
    return Dataset.from_dict({"number": range(len(labels)), "label": labels}, features=features)


def test_the_share_is_one_of_every_class_and_the_same_for_the_same_seed():
    labels = np.random.default_rng(0).permutation([0] * 20 + [1] * 10 + [2] * 2 + [3]).tolist()
    train, kept = keep_share(labelled(labels), 0.2, seed=3)
    assert [kept["label"][:].count(label) for label in range(4)] == [4, 2, 1, 0]
    assert sorted(train["number"][:] + kept["number"][:]) == list(range(33))
    assert keep_share(labelled(labels), 0.2, seed=3)[1]["number"][:] == kept["number"][:]
    assert keep_share(labelled(labels), 0.2, seed=4)[1]["number"][:] != kept["number"][:]
    assert keep_share(labelled(labels), 0.9, seed=3)[0]["label"][:].count(2) == 1  # one stays
    for share in (0.0, 1.0):
        with pytest.raises(ValueError, match="validation_share must be between 0 and 1"):
            keep_share(labelled(labels), share, seed=0)
    with pytest.raises(ValueError, match="needs a class with two clips"):
        keep_share(labelled([0, 1]), 0.5, seed=0)


def test_classes_that_are_short_of_clips(warnings_of_training):
    names = ["a", "b", "c", "d"]
    check_classes(names, [0, 0, 1, 2, 2], [0, 1])
    said = warnings_of_training()
    assert [message.rsplit(maxsplit=1)[1] for message in said] == ["d", "b", "c"]
    with pytest.raises(ValueError, match="only the evaluation has clips of d: no training clip shows them"):
        check_classes(names, [0, 1, 2], [3])
    check_classes(names, [0, 0, 1, 1, 2, 2, 3, 3], None)
    assert len(warnings_of_training()) == 3


def test_a_folder_that_only_validation_has_stops_the_run(command, dataset, tmp_path):
    shutil.copytree(dataset, tmp_path / "set")
    (tmp_path / "set" / "validation" / "running").rename(tmp_path / "set" / "validation" / "runing")
    with pytest.raises(ValueError, match="only the evaluation has clips of runing"):
        command(dataset=tmp_path / "set")
    assert not (tmp_path / "run").exists()


def test_labels_keep_their_numbers_where_validation_lacks_a_class(tmp_path):
    folder = video_datasets.webdataset(tmp_path / "set", {"train": 3, "validation": 2}, label="txt")
    video_datasets.webdataset(tmp_path / "more", {"validation": 3}, shards=1, label="txt")
    train, validation = load_splits(FinetuneOptions(dataset=str(folder)), seed=0)
    assert validation.features["label"].names == train.features["label"].names == video_datasets.CLASSES
    assert sorted(validation["label"][:]) == [0, 1]
    shutil.copy(tmp_path / "more" / "validation-00000.tar", folder / "validation-00002.tar")
    for shard in folder.glob("train-00000*"):
        shard.unlink()  # with jumping and running
    with pytest.raises(ValueError, match="only the split validation has the labels jumping, running"):
        load_splits(FinetuneOptions(dataset=str(folder)), seed=0)


def test_a_table_of_many_classes_shows_those_with_the_fewest_clips():
    names = [f"class {number}" for number in range(100)]
    labels = [number for number in range(100) for _ in range(3 + (number % 50 > 0))]
    lines = clip_table(names, {"train": labels, "stream": None}).splitlines()
    assert len(lines) < 40
    assert [line.split()[2:] for line in lines if line.startswith(("class 0 ", "class 50 "))] == [["3", "streamed"]] * 2
    assert lines[-1].split() == ["all", str(len(labels)), "streamed"]


# The folder of a run


@pytest.mark.long
def test_another_run_is_not_written_over(command, tmp_path):
    command(save_strategy="steps", save_steps=1, seed=1)
    before = weights(tmp_path / "run")
    with pytest.raises(
        ValueError, match=r"--output_dir .*run already holds checkpoints.* --resume_from_checkpoint last"
    ):
        command()
    with pytest.raises(ValueError, match="give one of them"):
        command("--overwrite", resume_from_checkpoint="last")
    with pytest.raises(ValueError, match="--overwrite would delete .*checkpoint-1, which training starts from"):
        command("--overwrite", model=tmp_path / "run" / "checkpoint-1")
    assert all(weights(tmp_path / "run")[name].equal(tensor) for name, tensor in before.items())
    command("--overwrite", max_steps=1, seed=2)
    assert not list((tmp_path / "run").glob("checkpoint-*"))
    assert not weights(tmp_path / "run")["classifiers.0.weight"].equal(before["classifiers.0.weight"])
    with pytest.raises(ValueError, match=r"--output_dir .*run already holds a model. Give --overwrite"):
        command()


def test_a_folder_with_other_files_is_free(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    prepare_output_dir(tiny_training.arguments(tmp_path), False, None)
    prepare_output_dir(tiny_training.arguments(tmp_path), True, None)
    assert (tmp_path / "notes.txt").exists()


@pytest.mark.long
@pytest.mark.parametrize("word", ["last", "checkpoint-1"])
def test_a_resumed_run_ends_where_a_whole_one_does(command, tmp_path, word):
    command(output_dir=tmp_path / "whole", max_steps=3)
    # The schedule has to be that of all steps; the first run is cut off by hand.
    command(save_strategy="steps", save_steps=1, max_steps=3)
    for gone in (tmp_path / "run" / "checkpoint-2", tmp_path / "run" / "checkpoint-3"):
        shutil.rmtree(gone)
    (tmp_path / "run" / "model.safetensors").unlink()
    command(resume_from_checkpoint=tmp_path / "run" / word if word.startswith("check") else word, max_steps=3)
    expected = weights(tmp_path / "whole")
    assert all(tensor.equal(expected[name]) for name, tensor in weights(tmp_path / "run").items())


@pytest.mark.long
def test_new_classifiers_are_news_in_a_new_run_alone(command, tmp_path, warnings_of_training):
    command(save_strategy="steps", save_steps=1, max_steps=1)
    told = [message for message in warnings_of_training() if "new classifiers" in message]
    assert told == ["new classifiers for 3 labels: the checkpoint does not have them all"]
    command(resume_from_checkpoint="last", max_steps=2)
    assert [message for message in warnings_of_training() if "new classifiers" in message] == told


def test_what_resuming_takes(tmp_path):
    for value in (None, False, "false", ""):
        assert checkpoint_to_resume(value, str(tmp_path)) is None
    for value in (True, "last", "True"):
        with pytest.raises(ValueError, match="there is no checkpoint in .*nowhere"):
            checkpoint_to_resume(value, str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="is no checkpoint of a training run .no trainer_state.json in it.*`last`"):
        checkpoint_to_resume(str(tmp_path), str(tmp_path))


@pytest.mark.long
def test_ctrl_c_ends_with_the_command_that_goes_on(command, tmp_path, capsys):
    """A real SIGINT, once the first checkpoint is there."""
    checkpoints, ended = tmp_path / "run", threading.Event()

    def interrupt():
        while not ended.wait(0.01):
            if list(checkpoints.glob("checkpoint-*/trainer_state.json")):
                os.kill(os.getpid(), signal.SIGINT)
                return

    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(SystemExit) as stopped:
            command("--overwrite", max_steps=5000, save_strategy="steps", save_steps=1, save_total_limit=3)
    finally:
        ended.set()
        thread.join()
        signal.signal(signal.SIGINT, handler)
    assert stopped.value.code == 130
    line = capsys.readouterr().err.splitlines()[-1]
    last = max(int(path.name.partition("-")[2]) for path in checkpoints.glob("checkpoint-*"))
    said, _, way_on = line.partition(f"from checkpoint-{last}: flux-hf finetune ")
    assert said and "--overwrite" not in way_on

    finetune.main([*shlex.split(way_on), f"--max_steps={last + 1}"])
    state = json.loads((checkpoints / "trainer_state.json").read_text())
    assert state["global_step"] == last + 1


def test_ctrl_c_before_the_first_checkpoint(command, tmp_path, capsys):
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(0, os.kill, (os.getpid(), signal.SIGINT))
    try:
        with pytest.raises(SystemExit) as stopped:
            with interruptible("finetune", [], tiny_training.arguments(tmp_path)):
                timer.start()
                threading.Event().wait(10)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert stopped.value.code == 130
    assert "nothing was saved yet: the same command begins anew" in capsys.readouterr().err


@pytest.mark.parametrize("module", [finetune, pretrain])
def test_ctrl_c_before_training_begins(dataset, tmp_path, monkeypatch, capsys, module):
    def interrupted(**_):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "check_checkpoints", interrupted)
    with pytest.raises(SystemExit) as stopped:
        module.main([f"--dataset={dataset}", *["--teacher=any"] * (module is pretrain), "--use_cpu"])
    assert stopped.value.code == 130
    assert "nothing was saved yet" in capsys.readouterr().err


def test_a_pretrained_checkpoint_gets_classifiers_without_a_load_report(tmp_path, load_reports):
    student = tiny_pretraining.student()
    student.save_pretrained(tmp_path)
    FluxVideoProcessor().save_pretrained(tmp_path)
    model = starting_model(["x", "y"], checkpoint=str(tmp_path))
    assert model.num_labels == 2 and model.config.id2label == {0: "x", 1: "y"}
    found = model.fluxvit.state_dict()
    assert all(tensor.equal(found[name]) for name, tensor in student.fluxvit.state_dict().items())
    assert load_reports() == []


def test_a_set_smaller_than_the_batch_is_trained_on(command, tmp_path, capsys):
    command(per_device_train_batch_size=16)
    assert "Batches of 6 clips, not 16: there are 6 to train on." in capsys.readouterr().out
    state = json.loads((tmp_path / "run" / "trainer_state.json").read_text())
    assert (state["global_step"], state["epoch"]) == (2, 2)


@pytest.mark.long
def test_a_small_set_gets_the_epochs_that_min_steps_takes(command, tmp_path):
    command(max_steps=-1, num_train_epochs=1, min_steps=4)
    state = json.loads((tmp_path / "run" / "trainer_state.json").read_text())
    assert (state["global_step"], state["epoch"]) == (6, 2)  # three steps an epoch
    command(max_steps=-1, num_train_epochs=1, min_steps=3, output_dir=tmp_path / "enough")
    assert json.loads((tmp_path / "enough" / "trainer_state.json").read_text())["epoch"] == 1
