"""Align a FluxViT with a text encoder on videos and captions.

flux-hf align own_captions --dataset my/videos --text_model ENCODER
flux-hf align align_small_25m --dataset /data/pairs --model checkpoints/pretrained --text_model ENCODER
torchrun --nproc_per_node 8 -m flux_hf.scripts.align own_captions ...        # several processes; on CPUs also --use_cpu
"""

from flux_hf.cli import run_command
from flux_hf.options import check_checkpoints, naming_split, parse_options
from flux_hf.options.aligning import AlignOptions, FluxAligningOptions
from flux_hf.options.interruption import starting


def main(argv: list[str] | None = None) -> None:
    with starting():
        options, training_args = parse_options((AlignOptions, FluxAligningOptions), argv, __doc__, {"recipe": "RECIPE"})
        from flux_hf.text.aligning import align
        from flux_hf.training.output_folder import interruptible

        check_checkpoints(model=options.model)
    with naming_split(options, "train_split", "eval_split"), interruptible("align", argv, training_args):
        align(options, training_args)


if __name__ == "__main__":
    run_command("flux-hf align", main)
