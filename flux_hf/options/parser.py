"""The parser of real command lines. Importing it imports Transformers."""

import reprlib
from argparse import Action, ArgumentError
from collections.abc import Callable
from numbers import Integral, Number, Real
from typing import NoReturn

from transformers import HfArgumentParser

from flux_hf.options.errors import did_you_mean

NUMBERS = {int: Integral, float: Real}


def _is_value(entry, kind: type) -> bool:
    """Options of type str may also take dictionaries and lists, as lr_scheduler_kwargs does, but no numbers. A number
    that is not a number is none."""
    if kind is str:
        return isinstance(entry, bool) or not isinstance(entry, Number)
    return isinstance(entry, NUMBERS[kind]) and not isinstance(entry, bool) and entry == entry


class OptionParser(HfArgumentParser):
    """`HfArgumentParser` where no option is required, and whose errors go to `fail` with what was probably meant."""

    def __init__(self, dataclass_types, *, fail: Callable[[str], NoReturn]):
        super().__init__(dataclass_types, add_help=False)
        self.fail = fail
        for action in self._actions:
            action.required = False

    def names(self) -> list[str]:
        """Names of all options, as in recipes."""
        return [action.dest for action in self._actions]

    def set_defaults(self, **values) -> None:
        """As in argparse, which converts text; other values, as a recipe has them, must be what the option takes."""
        for action in self._actions:
            value = values.get(action.dest)
            if value is None or isinstance(value, str) or action.type not in (str, *NUMBERS):
                continue
            entries = value if action.nargs in ("+", "*") and isinstance(value, (list, tuple)) else [value]
            if action.nargs in ("+", "*") and entries is not value:
                self.fail(f"--{action.dest} takes a list, got {reprlib.repr(value)}")
            for entry in entries:
                if not _is_value(entry, action.type):
                    self.fail(f"--{action.dest} takes {action.type.__name__} values, got {reprlib.repr(entry)}")
        super().set_defaults(**values)

    def read(self, name: str, words: list[str]):
        """The value of an option that was given these words, whatever they begin with."""
        (action,) = (action for action in self._actions if action.dest == name)
        try:
            return self._get_values(action, words)
        except ArgumentError as error:
            self.fail(str(error))

    def error(self, message: str) -> NoReturn:
        self.fail(message)

    def _check_value(self, action: Action, value) -> None:
        if action.choices is not None and value not in action.choices:
            meant = did_you_mean(str(value), map(str, action.choices))
            raise ArgumentError(action, f"must be {' or '.join(map(str, action.choices))}, got {value}{meant}")
