"""What the options of the video processor accept."""

import math
import re

import torch
from huggingface_hub.dataclasses import validate_typed_dict
from huggingface_hub.errors import StrictDataclassError, StrictDataclassFieldValidationError

# Upper bounds are many times what videos and models need (the paper: 3072 tokens of 24 frames of 252 pixels). They are
# there so that a damaged or hostile configuration is an error that names the option, and not a process that computes or
# allocates until it is killed.
MOST_TOKENS = 2**20
MOST_FRAMES = 2**12
MOST_FPS = 1000
LARGEST_SIDE = 2**14
LARGEST_PATCH = 256
LARGEST_TUBELET = 32
MOST_CLIP_PIXELS = 2**29
MOST_BYTES = 2**40
LARGEST_FACTOR = 1e6
LONGEST_MESSAGE = 500

MOST_CHANNELS = 4

RESAMPLINGS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
"""By Pillow's number: those that exist for tensors."""


class VideoOptionError(StrictDataclassFieldValidationError, StrictDataclassError, ValueError):
    """A value that an option of the processor does not accept; the message names the option, the value and what is
    accepted. What `validate_typed_dict` raises is no ValueError; this is both."""

    def __init__(self, message: str):
        Exception.__init__(self, message)


def check_typed_options(schema: type, options: dict):
    """`validate_typed_dict` whose errors are of one line and ValueErrors."""
    for name in ("size", "crop_size", "image_mean", "image_std"):  # before the type of every number is looked at
        if isinstance(options.get(name), (list, tuple)) and len(options[name]) > MOST_CHANNELS:
            raise VideoOptionError(f"option '{name}': a list of {len(options[name])} numbers is too long")
    try:
        validate_typed_dict(schema, options)
    except StrictDataclassError as error:
        field = re.match(r"Validation error for field '(\w+)'", str(error))
        message = " ".join(str(error.__cause__).split())
        if field and field[1] not in message:
            message = f"option '{field[1]}': {message}"
        half = LONGEST_MESSAGE // 2
        message = message if len(message) <= LONGEST_MESSAGE else f"{message[:half]} ... {message[-half:]}"
        raise VideoOptionError(message) from error.__cause__


# The validators below get values whose type is right, and, of an option that is not given, a placeholder.


def within(least: float, most: float, kind: str = "a number"):
    """A validator of a number, or of all numbers of a list or a dictionary."""

    def check(value):
        numbers = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else [value]
        for number in numbers:
            if isinstance(number, (int, float)) and not least <= number <= most:
                raise ValueError(f"it must be {kind}, got {number}; accepted is {least} to {most}")

    return check


def counted(most: int):
    """A validator of integers."""
    return within(1, most, "an integer >= 1")


def side_lengths(value):
    """A validator of `size` and `crop_size`."""
    if isinstance(value, (list, tuple)) and len(value) != 2:
        raise ValueError(f"it must be n, (height, width) or a dictionary of them, got {list(value)}")
    counted(LARGEST_SIDE)(value)


def colour_numbers(least: float):
    """A validator of mean or deviation: one finite number, or one for each of 1, 3 or 4 channels."""

    def check(value):
        if isinstance(value, (list, tuple)) and len(value) not in (1, 3, MOST_CHANNELS):
            raise ValueError(
                f"it must be one number, or one for each of 1, 3 or {MOST_CHANNELS} channels, got {list(value)}"
            )
        within(least, LARGEST_FACTOR)(value)

    return check


def resampling(value):
    """A validator of `resample`."""
    if isinstance(value, int) and value not in RESAMPLINGS:
        accepted = ", ".join(f"{number} ({name})" for number, name in RESAMPLINGS.items())
        raise ValueError(f"it must be one of {accepted}, got {value}")


def one_of(names):
    """A validator of a name."""

    def check(value):
        if isinstance(value, str) and value not in names:
            raise ValueError(f"it must be one of {', '.join(names)}, got {value!r}")

    return check


def device_name(value):
    """A validator of `device`."""
    try:
        torch.device(value if isinstance(value, str) else "cpu")
    except RuntimeError as error:
        raise ValueError(f"it must be a device of torch, got {value!r}") from error


def check_clip_pixels(frames: int, *sizes: tuple[int, int], **named):
    """Raises ValueError, naming `named` options, where a clip of `frames` frames of one of `sizes` is too large."""
    pixels = frames * max(math.prod(size) for size in sizes)
    if pixels > MOST_CLIP_PIXELS:
        settings = ", ".join(f"{name}={value}" for name, value in named.items() if value is not None)
        raise ValueError(f"{settings}: a clip of {pixels:.3g} pixels, accepted are {MOST_CLIP_PIXELS:.3g}")
