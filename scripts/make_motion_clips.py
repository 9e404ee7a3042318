"""Render a data set of motion clips (videofolder layout): python scripts/make_motion_clips.py --output_dir clips."""

import sys

from flux_hf.motion_clips import MotionClipOptions, make_dataset


def main(arguments=None):
    from transformers import HfArgumentParser  # here, so that the rendering processes start without it

    (options,) = HfArgumentParser(MotionClipOptions, description=__doc__).parse_args_into_dataclasses(arguments)
    try:
        print(make_dataset(options))
    except (ValueError, ImportError) as error:
        sys.exit(f"make_motion_clips: {error}")


if __name__ == "__main__":
    main()
