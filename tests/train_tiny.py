"""A training run in a process of its own: python -m tests.train_tiny OPTIONS.json [name=value ...]

With a teacher it pre-trains, with `align` it aligns with text. Writes what it saw of every batch and, at the end, its
losses to files beside the options, one per process; with `evaluate`, the folder of a data set, also the accuracies
there and the number of forwards.
"""

import hashlib
import json
import os
import signal
import sys
from pathlib import Path

import torch
from transformers import TrainerCallback, set_seed

from flux_hf.data import load_video_dataset
from flux_hf.text.pairs import load_pairs
from tests import tiny_aligning, tiny_pretraining, tiny_training


class KillItself(TrainerCallback):
    """Ends the process as a crash would, once a step is done (and its checkpoint written)."""

    def __init__(self, step: int):
        self.step = step

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def main(options: Path) -> None:
    settings = json.loads(options.read_text())
    kill_at, resume, drop_path = (settings.pop(key, None) for key in ("kill_at", "resume", "drop_path_rate"))
    set_seed(0)
    train = tiny_training.clips(settings.pop("num_clips", 12))
    changes = {"drop_path_rate": drop_path} if drop_path else None
    folder, teacher = settings.pop("output_dir"), settings.pop("teacher", None)
    evaluate, align = settings.pop("evaluate", None), settings.pop("align", False)
    if align:
        trainer = tiny_aligning.trainer(folder, changes={"video": changes or {}}, **settings)
    elif teacher is None:
        trainer = tiny_training.trainer(folder, train=train, changes=changes, **settings)
    else:
        trainer = tiny_pretraining.trainer(folder, teacher, train=train, changes=changes, **settings)
    if kill_at is not None:
        trainer.add_callback(KillItself(kill_at))
    rank = trainer.args.process_index
    batches = []
    compute_loss = trainer.compute_loss

    def noting(model, inputs, **kwargs):
        batches.append([list(inputs["pixel_values_videos"].shape[1::2]), inputs["names"]])
        return compute_loss(model, inputs, **kwargs)

    trainer.compute_loss = noting
    trainer.train(resume_from_checkpoint=resume)
    state = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    report = {
        "world_size": trainer.args.world_size,
        "batches": batches,
        "losses": [[entry["step"], entry["loss"]] for entry in trainer.state.log_history if "loss" in entry],
    }
    if evaluate is not None:
        forwards = []
        tower = trainer.model.vision_model if align else trainer.model.fluxvit
        tower.register_forward_pre_hook(lambda *_: forwards.append(1))
        report["evaluation"] = trainer.evaluate((load_pairs if align else load_video_dataset)(evaluate, "val"))
        report["forwards"] = len(forwards)
    if rank == 0:
        weights = {name: value.detach().clone() for name, value in state.items()}
        report["hash"] = hashlib.sha256(b"".join(w.numpy().tobytes() for w in weights.values())).hexdigest()
        torch.save(weights, options.with_suffix(".pt"))
    options.with_suffix(f".rank{rank}.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
