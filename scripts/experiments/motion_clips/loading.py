"""Reading a rendered data set back with `datasets`."""

import os

from flux_hf.scripts.experiments.motion_clips.trajectories import LABELS


def dataset_features():
    """Columns of a rendered data set, videos as paths (not decoded), `label` a ClassLabel in the order of LABELS.

    Beside a metadata file `datasets` takes columns from that file alone, and there labels are strings: pass these
    features to `load_dataset("videofolder", data_dir=..., features=dataset_features())`.
    """
    from datasets import ClassLabel, Features, Value, Video

    integers = dict.fromkeys(("seed", "index", "num_frames", "width", "height"), Value("int64"))
    floats = dict.fromkeys(("hardness", "dx", "dy", "log_scale", "angle", "fps"), Value("float64"))
    label = ClassLabel(names=list(LABELS))
    return Features(
        {"video": Video(decode=False), "label": label, **integers, **floats, "codec": Value("string")},
    )


def load_motion_clips(data_dir, **kwargs):
    """The rendered data set in `data_dir` (DatasetDict); further arguments go to `datasets.load_dataset`."""
    from datasets import load_dataset

    return load_dataset("videofolder", data_dir=os.fspath(data_dir), features=dataset_features(), **kwargs)
