"""Render a data set of motion clips in videofolder layout: make.py --output_dir clips."""

from flux_hf.cli import run_command
from flux_hf.scripts.experiments.motion_clips import MotionClipOptions, make_dataset


def main(arguments=None):
    from transformers import HfArgumentParser  # here, so that the rendering processes start without it

    (options,) = HfArgumentParser(MotionClipOptions, description=__doc__).parse_args_into_dataclasses(arguments)
    print(make_dataset(options))


if __name__ == "__main__":
    run_command("scripts/experiments/motion_clips/make.py", main)
