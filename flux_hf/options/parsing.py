"""Dataclasses on the command line, with defaults from one recipe."""

import itertools
import pkgutil
import sys
from dataclasses import Field, fields
from typing import NoReturn

from flux_hf.options.errors import did_you_mean, usage_error
from flux_hf.options.help import help_text, is_list, is_required, shown_as, usage
from flux_hf.options.recipes import SUFFIXES, read_recipe


def parse_options(
    dataclass_types, argv: list[str] | None = None, description: str = "", positionals: dict[str, str] | None = None
) -> tuple:
    """Fill dataclasses from the command line; `--help` prints their options and ends the program.

    When the first argument is a YAML file its entries are the defaults and the arguments after it win. Unknown names in
    either, and a file that is no recipe, end the program with a usage error of three lines and exit code 2.

    Args:
        dataclass_types: one or several. One with the attribute `completed_by` ("module:Class") stands for that larger
            class: its own fields are what `--help` shows, `--help_all` shows all, and the larger one is filled.
        argv: default `sys.argv[1:]`.
        description: what `--help` says above the options.
        positionals: options whose values may also come first, without their names: option -> what the usage calls it.
            A list takes all values that are left. `recipe` is no option but a recipe by name or path. What follows
            `--` are such values, too, whatever they begin with.
    """
    types = [dataclass_types] if isinstance(dataclass_types, type) else list(dataclass_types)
    argv = sys.argv[1:] if argv is None else list(argv)
    command = _Command(sys.argv[0], types, positionals or {})
    if wanted := {"-h", "--help", "--help_all", "--help-all"}.intersection(_before_dashes(argv)):
        inherited = [] if wanted <= {"-h", "--help"} else _inherited(types)
        print(help_text(command.program, types, description, command.positionals, inherited))
        raise SystemExit(0)
    recipe, values, argv = command.split(argv)
    return command.fill([_completed(one) for one in types], command.read(recipe), values, argv)


def arguments_from_recipe(arguments_type, recipe: str, overrides: dict, beside: type):
    """The arguments in a recipe as a dataclass; `overrides` win. Options of the dataclass `beside` are left out.

    Raises:
        ValueError: there is no such recipe, or it or the overrides have unknown names, or values that are none.
    """
    from flux_hf.options.parser import OptionParser

    def fail(message: str) -> NoReturn:
        raise ValueError(f"recipe {recipe}: {message}")

    own = {one.name for one in fields(arguments_type) if one.init}
    other = {one.name for one in fields(beside)} - own
    found = read_recipe(recipe)
    _check_names(found, own | other, fail)
    _check_names(overrides, own, fail)
    parser = OptionParser(arguments_type, fail=fail)
    parser.set_defaults(**{name: value for name, value in (found | overrides).items() if name in own})
    return parser.parse_dict(vars(parser.parse_args([])))[0]


class _Command:
    """What the arguments of one command mean."""

    def __init__(self, program: str, types: list[type], positionals: dict[str, str]):
        self.program, self.positionals = program, positionals
        self.fields = {one.name: one for dataclass_type in types for one in fields(dataclass_type)}
        self.required = [name for name, one in self.fields.items() if is_required(one)]
        self.usage = usage(program, types, positionals)

    def fail(self, message: str) -> NoReturn:
        usage_error(self.usage, message, f"{self.program} --help")

    def split(self, argv: list[str]) -> tuple[str | None, dict[str, list[str]], list[str]]:
        """The recipe, the words that stand for an option without its name, and the other arguments."""
        before = _before_dashes(argv)
        values = list(itertools.takewhile(lambda argument: argument == "-" or not argument.startswith("-"), before))
        rest, names = before[len(values) :], [name for name in self.positionals if name != "recipe"]
        values += argv[len(before) + 1 :]
        recipe = None
        if values and (values[0].endswith(SUFFIXES) or "recipe" in self.positionals):
            recipe, *values = values
        named = {}
        for name in names:
            if values:
                count = len(values) if is_list(self.fields[name]) else 1
                named[name], values = values[:count], values[count:]
        if values:
            self.fail(f"no option takes {' '.join(values)}")
        return recipe, named, rest

    def read(self, recipe: str | None) -> dict:
        """The options of a recipe, none without one."""
        try:
            return {} if recipe is None else read_recipe(recipe)
        except ValueError as error:
            self.fail(str(error))

    def fill(self, types: list[type], recipe: dict, words: dict[str, list[str]], argv: list[str]) -> tuple:
        """The dataclasses with the values of the recipe and, over these, of the words and the arguments."""
        from flux_hf.options.parser import OptionParser

        parser = OptionParser(types, fail=self.fail)
        _check_names(recipe, parser.names(), lambda message: self.fail(f"the recipe has {message}"))
        parser.set_defaults(**recipe | {name: parser.read(name, given) for name, given in words.items()})
        filled, unknown = parser.parse_known_args(argv)
        if options := [argument for argument in unknown if argument.startswith("-")]:
            name = options[0].partition("=")[0]
            known = [f"--{known}" for known in parser.names()]
            word = name.replace("-", "_").replace("__", "--", 1)
            ending = [other for other in known if other.endswith(f"_{word.lstrip('-')}")]
            meant = f"; did you mean {ending[0]}?" if ending else did_you_mean(word, known)
            self.fail(f"there is no option {name}{meant}")
        if unknown:
            position = "; values without an option come first" if self.positionals else ""
            self.fail(f"no option takes {' '.join(unknown)}{position}")
        if missing := [name for name in self.required if getattr(filled, name) is None]:
            named = ", ".join(shown_as(self.fields[name], self.positionals) for name in missing)
            without = "recipe" in self.positionals and not recipe
            self.fail(f"missing: {named}" + "; there is no RECIPE either (`flux-hf recipes` lists them)" * without)
        return parser.parse_dict(vars(filled))


def _check_names(given, known, fail) -> None:
    if unknown := sorted(set(given) - set(known)):
        fail(f"unknown options: {', '.join(unknown)}{did_you_mean(unknown[0], known)}")


def _before_dashes(argv: list[str]) -> list[str]:
    return argv[: argv.index("--")] if "--" in argv else argv


def _completed(dataclass_type: type) -> type:
    larger = getattr(dataclass_type, "completed_by", None)
    return pkgutil.resolve_name(larger) if larger else dataclass_type


def _inherited(types: list[type]) -> list[Field]:
    """The fields of completed dataclasses that the light ones do not have."""
    shown = {one.name for light in types for one in fields(light)}
    return [one for light in types for one in fields(_completed(light)) if one.init and one.name not in shown]
