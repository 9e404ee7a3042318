"""List the training recipes that come with the package, or print the options of one as YAML."""

from argparse import SUPPRESS, ArgumentParser

import yaml

from flux_hf.cli import run_command
from flux_hf.options.errors import usage_error
from flux_hf.options.recipes import read_recipe, recipe_names, recipe_purpose


def main(argv: list[str] | None = None) -> None:
    usage = "flux-hf recipes [NAME]"
    parser = ArgumentParser(usage=usage, description=__doc__, add_help=False)
    parser.add_argument("-h", "--help", action="help", help=SUPPRESS)
    parser.add_argument_group().add_argument(
        "name", metavar="NAME", nargs="?", help="Print this one, with everything it has from its base."
    )
    parser.error = lambda message: usage_error(usage, message, "flux-hf recipes --help")
    name = parser.parse_args(argv).name
    if name is None:
        width = max(map(len, recipe_names()))
        print("\n".join(f"{name:<{width}}  {recipe_purpose(name)}" for name in recipe_names()))
    else:
        print(f"# {recipe_purpose(name)}\n{yaml.safe_dump(read_recipe(name), sort_keys=False)}", end="")


if __name__ == "__main__":
    run_command("flux-hf recipes", main)
