"""Render a data set of motion clips in videofolder layout: make.py --output_dir clips."""

from flux_hf.cli import run_command
from flux_hf.options import parse_options
from flux_hf.scripts.experiments.motion_clips import MotionClipOptions, make_dataset


def main(arguments=None):
    (options,) = parse_options(MotionClipOptions, arguments, __doc__)
    print(make_dataset(options))


if __name__ == "__main__":
    run_command("scripts/experiments/motion_clips/make.py", main)
