"""The option of the commands that put videos into a model: the type of numbers that it computes in."""

from dataclasses import Field, field

DTYPES = ("auto", "float32", "bfloat16")


def dtype_option(default: str | None = None) -> Field:
    """The field `dtype`: one of `DTYPES`, or None, which leaves the weights as the checkpoint has them."""
    return field(
        default=default,
        metadata={
            "help": "Type of numbers that the model computes in; auto: what is faster here, which the log says. "
            f"Default: {default or 'the one of the checkpoint'}.",
            "choices": DTYPES,
        },
    )
