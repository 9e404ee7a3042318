"""YAML and JSON files that go by name: what ships in `scripts/configs` for training."""

from importlib.resources import files
from pathlib import Path

import yaml

from flux_hf.options.errors import did_you_mean

SUFFIXES = (".yaml", ".yml")


def recipe_names() -> list[str]:
    """Names of the recipes that ship with the package."""
    return sorted(path.stem for path in _shipped("recipes").glob("*.yaml"))


def recipe_path(recipe: str | Path) -> Path:
    """The file of a recipe, which is given by name (`own_clips`) or by path (`folder/mine.yaml`, `./mine.yaml`).

    Raises:
        ValueError: no shipped recipe has that name.
    """
    return _named_file(recipe, _shipped("recipes"), ".yaml", "recipe")


def model_config_path(config: str | Path) -> Path:
    """The JSON file of a model configuration, which is given by name (`fluxvit_small`) or by path.

    Raises:
        ValueError: no shipped configuration has that name.
    """
    return _named_file(config, _shipped("models"), ".json", "model configuration")


def label_symmetries_path(table: str | Path) -> Path:
    """The YAML file of a table of label symmetries, which is given by name (`ssv2`) or by path.

    Raises:
        ValueError: no shipped table has that name.
    """
    return _named_file(table, _shipped("label_symmetries"), ".yaml", "table of label symmetries")


def read_recipe(recipe: str | Path) -> dict:
    """The options of a recipe: its own over those of its `base`, a name or a path from the recipe's folder.

    Raises:
        ValueError: the recipe or a base is not there, holds no `option: value` lines, or is its own base.
    """
    return _resolved(recipe_path(recipe), ())


def recipe_purpose(recipe: str | Path) -> str:
    """The first line of the comment that a recipe starts with."""
    first = recipe_path(recipe).read_text(encoding="utf-8").partition("\n")[0]
    return first.lstrip("# ") if first.startswith("#") else ""


def _resolved(path: Path, above: tuple[Path, ...]) -> dict:
    chain = (*above, path.resolve())
    if path.resolve() in above:
        raise ValueError(f"recipes are their own base: {' -> '.join(str(step) for step in chain)}")
    options = _options(path)
    base = options.pop("base", None)
    if base is None:
        return options
    if not isinstance(base, str):
        raise ValueError(f"base in {path} must be the name or the path of one recipe, got {base!r}")
    try:
        return _resolved(_base_path(base, path.parent), chain) | options
    except ValueError as error:
        raise error if above else ValueError(f"base in {path}: {error}") from error


def _base_path(base: str, folder: Path) -> Path:
    beside = folder / (base if base.endswith(SUFFIXES) else f"{base}.yaml")
    return beside if beside.is_file() or base.endswith(SUFFIXES) else recipe_path(base)


def _options(path: Path) -> dict:
    try:
        options = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}{did_you_mean(path.stem, recipe_names())}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not YAML: {error}") from error
    if not isinstance(options, dict):
        raise ValueError(f"{path} must hold lines `option: value`, got {options!r}")
    return options


def _named_file(given: str | Path, folder: Path, suffix: str, kind: str) -> Path:
    path = Path(given)
    if path.suffix or path.is_absolute() or len(Path(given).parts) > 1:
        return path
    named = folder / f"{given}{suffix}"
    if not named.is_file():
        names = sorted(path.stem for path in folder.glob(f"*{suffix}"))
        meant = did_you_mean(str(given), names) or f"; there are {', '.join(names)}"
        raise ValueError(f"there is no {kind} {str(given)!r}{meant}")
    return named


def _shipped(kind: str) -> Path:
    return Path(str(files("flux_hf.scripts"))) / "configs" / kind
