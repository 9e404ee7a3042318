"""Pre-train a student on unlabelled videos by distilling a frozen teacher; options or one YAML recipe.

flux-hf pretrain scripts/configs/recipes/pretrain_small.yaml --dataset /data/k710 /data/ssv2 --teacher CHECKPOINT
torchrun --nproc_per_node 8 scripts/pretrain.py recipe.yaml ...      # several processes; on CPUs also --use_cpu
flux-hf finetune recipe.yaml --model runs/pretrained                 # then; --freeze backbone trains the heads alone
"""

from flux_hf.options import parse_options
from flux_hf.pretraining import FluxPreTrainingArguments, PretrainOptions, pretrain


def main(argv: list[str] | None = None) -> None:
    print(pretrain(*parse_options((PretrainOptions, FluxPreTrainingArguments), argv, __doc__)))


if __name__ == "__main__":
    main()
