"""YAML and JSON files that go by name: what ships in `scripts/configs` for training."""

import reprlib
from importlib.resources import files
from pathlib import Path

import yaml

from flux_hf.files import read_json, read_text
from flux_hf.options.errors import did_you_mean

SUFFIXES = (".yaml", ".yml")
MOST_ALIASES = 16
MOST_LEVELS = 30


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


def read_model_config(config: str | Path) -> dict:
    """What the JSON file of a model configuration holds, see [`model_config_path`].

    Raises:
        ValueError: naming the file, when there is none or it holds no JSON object.
    """
    path = model_config_path(config)
    try:
        content = read_json(path)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no JSON object {{...}}")
    return content


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
        options = read_yaml(path)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}{did_you_mean(path.stem, recipe_names())}") from error
    if not isinstance(options, dict) or not all(isinstance(name, str) for name in options):
        raise ValueError(f"{path} must hold lines `option: value`, got {reprlib.repr(options)}")
    return options


def read_yaml(path: Path):
    """What a YAML file holds.

    Raises:
        ValueError: naming the file and the line: it is no YAML, a name comes twice, or it has so many aliases that a
            few lines stand for more than memory holds.
    """
    text = read_text(path)
    try:
        _check_tokens(text)
        return yaml.load(text, _UniqueKeys)
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"{path} is not YAML: {error}") from error


def _check_tokens(text: str) -> None:
    aliases, depth = 0, 0
    for token in yaml.scan(text):
        name = type(token).__name__
        aliases += name == "AliasToken"
        depth += name.endswith("StartToken") - name.endswith("EndToken")
        if aliases > MOST_ALIASES or depth > MOST_LEVELS:
            raise ValueError(
                f"line {token.start_mark.line + 1}: more than {MOST_ALIASES} aliases or {MOST_LEVELS} levels"
            )


class _UniqueKeys(yaml.SafeLoader):
    """The safe loader, which takes the last of two lines with the same name, without that."""

    def construct_mapping(self, node, deep=False):
        lines = {}
        for key, _ in node.value:
            first = lines.setdefault(str(key.value), key.start_mark.line + 1)
            if first != key.start_mark.line + 1:
                raise yaml.constructor.ConstructorError(f"{key.value} is there twice", key.start_mark, None, None)
        return super().construct_mapping(node, deep)


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
