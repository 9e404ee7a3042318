"""What becomes of a clip's label when the clip is turned, mirrored or played backwards, from a table in YAML."""

import numpy as np

from flux_hf.options.recipes import label_symmetries_path, read_yaml

OPERATIONS = {
    "quarter_turn": (4, lambda clip: np.rot90(clip, axes=(1, 2))),
    "mirror": (2, lambda clip: clip[:, :, ::-1]),
    "backwards": (2, lambda clip: clip[::-1]),
}
"""By name: after how many times a clip (frames, height, width, channels) is as before, and what is done to it."""


class LabelSymmetries:
    """Random views of clips whose labels are known.

    The table is a YAML file with one section for each operation: `quarter_turn` (90 degrees counter-clockwise),
    `mirror` (left to right) and `backwards` (last frame first). A section says which label each label becomes:

    - An operation without a section is never done. `mirror: {}` is done, and every label keeps itself.
    - A label that a section does not name keeps itself.
    - `label: null` says that no label fits this view: such a clip is left as it is.

    Args:
        table: operation -> {label: label or None}.
        label_names: the labels of the data set, in the order of their numbers.
        where: what messages call the table.

    Raises:
        ValueError: the table has another form, names labels that the data set does not have, or does not come back to a
            label when the operation is done often enough (twice; four times for a quarter turn).
    """

    def __init__(
        self, table: dict[str, dict[str, str | None]], label_names: list[str], where: str = "label_symmetries"
    ):
        _check(table, label_names, where)
        # In the order of OPERATIONS, whatever the order in the file, so that the same draws mean the same views.
        self.images = {
            operation: [_image(table[operation], name, label_names) for name in label_names]
            for operation in OPERATIONS
            if operation in table
        }

    @property
    def mirrors(self) -> bool:
        """Whether clips are mirrored."""
        return "mirror" in self.images

    def view(self, clip: np.ndarray, label: int, generator: np.random.Generator) -> tuple[np.ndarray, int]:
        """A random view of a clip (frames, height, width, channels), and its label: 0 to 3 quarter turns, then mirrored
        or not, then played backwards or not, all equally likely. The clip is a view of the input."""
        for operation, images in self.images.items():
            period, change = OPERATIONS[operation]
            times = int(generator.integers(4)) if period == 4 else int(generator.random() < 0.5)
            changed, becomes = clip, label
            for _ in range(times):
                becomes = None if becomes is None else images[becomes]
                changed = change(changed)
            if becomes is not None:
                clip, label = changed, becomes
        return clip, label


def load_label_symmetries(name_or_path: str, label_names: list[str]) -> LabelSymmetries:
    """The table of a YAML file, or of that name in `scripts/configs/label_symmetries` (`ssv2`).

    Raises:
        ValueError: there is no such file, it is not YAML, or it does not fit (see [`LabelSymmetries`]).
    """
    try:
        table = read_yaml(label_symmetries_path(name_or_path))
    except OSError as error:
        raise ValueError(f"label_symmetries: {name_or_path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"label_symmetries: {error}") from error
    return LabelSymmetries(table, label_names, f"label_symmetries {name_or_path}")


def _image(section: dict, name: str, label_names: list[str]) -> int | None:
    becomes = section.get(name, name)
    return None if becomes is None else label_names.index(becomes)


def _check(table, label_names: list[str], where: str) -> None:
    accepted = f"accepted are sections {', '.join(OPERATIONS)} with lines `label: label` or `label: null`"
    if not isinstance(table, dict) or not table or not all(isinstance(section, dict) for section in table.values()):
        raise ValueError(f"{where} is not a table of sections; {accepted}")
    if unknown := [str(operation) for operation in table if operation not in OPERATIONS]:
        raise ValueError(f"{where} has the section {', '.join(unknown)}; {accepted}")
    named = {name for section in table.values() for line in section.items() for name in line if name is not None}
    if unknown := sorted(str(name) for name in named if name not in label_names):
        raise ValueError(
            f"{where} names {', '.join(unknown[:6])}{', …' * (len(unknown) > 6)}: no labels of the data set, which has "
            f"{', '.join(label_names[:6])}{', …' * (len(label_names) > 6)}"
        )
    for operation, section in table.items():
        for name in section:
            chain = [name]
            while len(chain) <= OPERATIONS[operation][0] and chain[-1] is not None:
                chain.append(section.get(chain[-1], chain[-1]))
            if chain[-1] not in (name, None):
                raise ValueError(
                    f"{where}, {operation}: {' -> '.join(chain)} must come back to {name} after "
                    f"{OPERATIONS[operation][0]} times"
                )
