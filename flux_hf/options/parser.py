"""The parser of real command lines. Importing it imports Transformers."""

from argparse import Action, ArgumentError
from collections.abc import Callable
from typing import NoReturn

from transformers import HfArgumentParser

from flux_hf.options.errors import did_you_mean


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
