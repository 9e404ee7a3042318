"""Pre-train a student on unlabelled videos by distilling a frozen teacher.

flux-hf pretrain pretrain_small --dataset /data/k710 /data/ssv2 --teacher CHECKPOINT
torchrun --nproc_per_node 8 -m flux_hf.scripts.pretrain pretrain_small ...   # several processes; on CPUs also --use_cpu
flux-hf finetune RECIPE --model runs/pretrain_small   # then; --freeze backbone trains the heads alone
"""

from flux_hf.cli import run_command
from flux_hf.options import check_checkpoints, naming_split, parse_options
from flux_hf.options.interruption import starting
from flux_hf.options.pretraining import FluxPreTrainingOptions, PretrainOptions, teacher_checkpoint


def main(argv: list[str] | None = None) -> None:
    with starting():
        options, training_args = parse_options(
            (PretrainOptions, FluxPreTrainingOptions), argv, __doc__, {"recipe": "RECIPE"}
        )
        from flux_hf.pretraining import pretrain
        from flux_hf.training.output_folder import interruptible

        check_checkpoints(model=options.model, teacher=teacher_checkpoint(options.teacher))
    with naming_split(options, "train_split"), interruptible("pretrain", argv, training_args):
        pretrain(options, training_args)


if __name__ == "__main__":
    run_command("flux-hf pretrain", main)
