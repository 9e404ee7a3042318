"""The HF Trainer with checkpoints and models that are whole or not there."""

import os
from pathlib import Path

from transformers import Trainer
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import logging

from flux_hf.files import naming_full_disk, whole_file, whole_folder
from flux_hf.training.checkpoint_folders import PARTIAL, delete_checkpoints, publish_checkpoint, remove_partial
from flux_hf.training.output_folder import checkpoint_to_resume

logger = logging.get_logger(__name__)


class CheckpointedTrainer(Trainer):
    """A `Trainer` that may be killed, or run out of disk, at any moment: a checkpoint has its name once all of it is on
    the disk, and a run goes on from one only if nothing of it is missing or damaged.

    Attributes:
        resumed_from: the checkpoint that `train` goes on from, None where it began anew.
    """

    def __init__(self, *args, **kwargs):
        self.resumed_from, self._is_partial = None, False
        super().__init__(*args, **kwargs)

    def train(self, resume_from_checkpoint: str | bool | None = None, **kwargs):
        """As in `Trainer`; `resume_from_checkpoint` may also be "last", True is the same: the last whole checkpoint.

        Raises:
            ValueError: there is none, or a file of the one that is named is missing or damaged; names the file.
        """
        say = logger.warning if self.is_world_process_zero() else lambda _: None
        self.resumed_from = checkpoint_to_resume(resume_from_checkpoint, self.args.output_dir, say)
        if self.args.should_save:
            remove_partial(self.args.output_dir)
        if self.resumed_from is not None:
            self._compare_processes(say)
        return super().train(resume_from_checkpoint=self.resumed_from, **kwargs)

    def _compare_processes(self, say) -> None:
        before, now = len(list(Path(self.resumed_from).glob("rng_state*.pth"))), self.args.world_size
        if before != now:
            say(
                f"{self.resumed_from} is of a run of {before} processes, this one has {now}: it will not end as one "
                "that was never stopped"
            )

    def _get_output_dir(self, trial) -> str:
        """As in `Trainer`; a hidden folder in it while a checkpoint is written."""
        folder = super()._get_output_dir(trial)
        return os.path.join(folder, PARTIAL) if self._is_partial else folder

    def _save_checkpoint(self, model, trial) -> None:
        """As in `Trainer`, but the checkpoint gets its name when all processes have written all of it, and older ones
        are deleted after that.

        Raises:
            OSError: the disk is full; names the checkpoint. The others stay.
        """
        state, run = self.state, self._get_output_dir(trial)
        name = f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"
        partial, folder, best = Path(run, PARTIAL, name), Path(run, name), state.best_model_checkpoint
        if self.args.should_save:
            remove_partial(run)
        self.accelerator.wait_for_everyone()
        self._is_partial = True
        try:
            with naming_full_disk(folder):
                super()._save_checkpoint(model, trial)
                self.accelerator.wait_for_everyone()
                state.best_model_checkpoint = self._best_checkpoint(run) or best
                if self.args.should_save:
                    state.save_to_json(str(partial / TRAINER_STATE_NAME))
                    publish_checkpoint(partial, folder)
        finally:
            self._is_partial = False
            if self.args.should_save:
                remove_partial(run)  # a failure must not keep the disk full
        self.accelerator.wait_for_everyone()
        if self.args.push_to_hub:
            self._push_from_checkpoint(str(folder))
        if self.args.should_save:
            kept = {folder} if state.best_model_checkpoint is None else {folder, Path(state.best_model_checkpoint)}
            delete_checkpoints(Path(run), self.args.save_total_limit, kept)

    def _best_checkpoint(self, run: str) -> str | None:
        best = self.state.best_global_step
        folder = os.path.join(run, f"{PREFIX_CHECKPOINT_DIR}-{best}")
        return folder if best and (best == self.state.global_step or os.path.isdir(folder)) else None

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        if not self._is_partial:
            super()._push_from_checkpoint(checkpoint_folder)

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        """As in `Trainer`; a model is whole or not there, its config.json comes last."""
        if self._is_partial or not self.args.should_save:
            return super()._save(output_dir, state_dict)
        with whole_folder(self.args.output_dir if output_dir is None else output_dir) as partial:
            super()._save(str(partial), state_dict)

    def save_state(self) -> None:
        """As in `Trainer`; the file is whole or not there."""
        if self.is_world_process_zero():
            with whole_file(Path(self.args.output_dir) / TRAINER_STATE_NAME) as partial:
                self.state.save_to_json(str(partial))
