"""Train a classifier on a video data set.

flux-hf finetune own_clips --dataset my/videos
flux-hf finetune kinetics400_small --dataset /data/k400 --model checkpoints/k710
torchrun --nproc_per_node 8 -m flux_hf.scripts.finetune own_clips ...        # several processes; on CPUs also --use_cpu
"""

from flux_hf.cli import run_command
from flux_hf.options import check_checkpoints, naming_split, parse_options
from flux_hf.options.interruption import starting
from flux_hf.options.training import FinetuneOptions, FluxTrainingOptions


def main(argv: list[str] | None = None) -> None:
    with starting():
        options, training_args = parse_options(
            (FinetuneOptions, FluxTrainingOptions), argv, __doc__, {"recipe": "RECIPE"}
        )
        from flux_hf.training import finetune
        from flux_hf.training.output_folder import interruptible

        check_checkpoints(model=options.model)
    with naming_split(options, "train_split", "eval_split"), interruptible("finetune", argv, training_args):
        finetune(options, training_args)


if __name__ == "__main__":
    run_command("flux-hf finetune", main)
