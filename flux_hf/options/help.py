"""Usage and help of a command, written from the fields of its dataclasses."""

import argparse
import shutil
from dataclasses import MISSING, Field, fields
from types import UnionType
from typing import Union, get_args, get_origin

from flux_hf.options.budgets import BUDGET

VALUES = {int: "INT", float: "FLOAT", bool: "[BOOL]", BUDGET: "INT|auto"}
RECIPE_HELP = "Recipe: a name that `flux-hf recipes` lists, or a YAML file of options. Options after it win."


def usage(program: str, types: list[type], positionals: dict[str, str]) -> str:
    """One line: the values that come first, and the options that have to be given."""
    all_fields = {one.name: one for dataclass_type in types for one in fields(dataclass_type)}
    first = [
        _repeated(shown) if name in all_fields and is_list(all_fields[name]) else shown
        for name, shown in positionals.items()
    ]
    needed = [one for one in all_fields.values() if is_required(one) and one.name not in positionals]
    more = ["[--option VALUE ...]"] if all_fields.keys() - positionals.keys() else []
    return " ".join([program, *first, *(f"--{one.name} {_value(one)}" for one in needed), *more])


def help_text(
    program: str, types: list[type], description: str, positionals: dict[str, str], inherited: list[Field]
) -> str:
    """The usage, the description, and every option with its values, what it is for and its default.

    Args:
        inherited: further options, in a group of their own behind those of `types`.
    """
    width = min(120, shutil.get_terminal_size((100, 24)).columns)
    parser = argparse.ArgumentParser(
        usage=usage(program, types, positionals).replace("%", "%%"),
        description=description,
        add_help=False,
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, max_help_position=30, width=width),
    )
    if "recipe" in positionals:
        parser.add_argument_group().add_argument(positionals["recipe"], help=RECIPE_HELP)
    groups = [list(fields(dataclass_type)) for dataclass_type in types]
    names = [name for dataclass_type in types for name in getattr(dataclass_type, "shown_first", ())]
    by_name = {one.name: one for group in groups for one in group}
    first = [by_name[name] for name in names if name in by_name]
    for title, group in [("what most runs need" if first else None, first), *((None, group) for group in groups)]:
        shown = parser.add_argument_group(title)
        for one in group:
            if group is first or one not in first:
                _add(shown, one, positionals)
    if inherited:
        group = parser.add_argument_group("options of transformers.TrainingArguments")
        for one in inherited:
            _add(group, one, positionals)
    elif any(hasattr(dataclass_type, "completed_by") for dataclass_type in types):
        parser.epilog = (
            "All options of transformers.TrainingArguments work, too, such as --logging_steps and --save_strategy:\n"
            f"{program} --help_all"
        )
    return parser.format_help().rstrip()


def is_required(option: Field) -> bool:
    """Whether an option has no default."""
    return option.default is MISSING and option.default_factory is MISSING


def is_list(option: Field) -> bool:
    """Whether an option takes several values."""
    return get_origin(_kinds(option)[0]) is list


def shown_as(option: Field, positionals: dict[str, str]) -> str:
    """What a message calls an option: FILE where its value comes first, else --name."""
    return positionals.get(option.name, f"--{option.name}")


def _add(group, option: Field, positionals: dict[str, str]) -> None:
    text = option.metadata.get("help", "")
    default = option.default_factory() if option.default_factory is not MISSING else option.default
    if default is not False and default not in (MISSING, None, [], ""):
        text += f" (default: {str(getattr(default, 'value', default)).replace('%', '%%')})"
    if option.name in positionals:
        group.add_argument(positionals[option.name], help=f"{text} (--{option.name})")
    else:
        group.add_argument(f"--{option.name}", metavar=_value(option), help=text)


def _value(option: Field) -> str:
    """The kind of value, as INT, INT [INT ...] or {one,other}."""
    if choices := option.metadata.get("choices"):
        return f"{{{','.join(map(str, choices))}}}"
    kind = _kinds(option)[0]
    if is_list(option):
        return _repeated(VALUES.get(get_args(kind)[0], "TEXT"))
    return VALUES.get(kind, "TEXT")


def _kinds(option: Field) -> list:
    """The type of an option, or those in its union, without None."""
    members = get_args(option.type) if get_origin(option.type) in (Union, UnionType) else (option.type,)
    return [kind for kind in members if kind is not type(None)]


def _repeated(value: str) -> str:
    return f"{value} [{value} ...]"
