"""The option of the commands that put videos into a model: which frames they read."""

from dataclasses import Field, field


def decoding_option(what: str) -> Field:
    """The field `decoding`: "fast", "exact" or None, where nobody asks. `what` begins its help."""
    return field(
        default=None,
        metadata={
            "help": f"{what}: exact takes the middle one of each segment, fast another where that is much cheaper to "
            "decode. Default: the processor's (fast).",
            "choices": ("fast", "exact"),
        },
    )


def decoding_setting(options) -> dict[str, str]:
    """What the option sets in a video processor: nothing where it is not given."""
    return {} if options.decoding is None else {"decoding": options.decoding}
