"""The option of the commands that put videos into a model: which frames they read."""

from dataclasses import Field, field


def decoding_option(what: str) -> Field:
    """The field `decoding`: a mode of the video processor or None, where nobody asks. `what` begins its help."""
    return field(
        default=None,
        metadata={
            "help": f"{what}: exact takes the middle one of each segment, fast another where that is much cheaper to "
            "decode, keyframes a key frame of as few segments as that takes, on a grid that follows the film. "
            "Default: the processor's (fast).",
            "choices": ("fast", "exact", "keyframes"),
        },
    )


def decoding_setting(options) -> dict[str, str]:
    """What the option sets in a video processor: nothing where it is not given."""
    return {} if options.decoding is None else {"decoding": options.decoding}
