"""Text of others, such as names of labels and files, on terminals and in Markdown; and Markdown tables."""

import re
from collections.abc import Iterable, Sequence

LONGEST = 100
"""Characters of a name that are shown; an ellipsis stands for the rest."""

_JOINS_EMOJI = "\u200d"


def printable(text: object, longest: int | None = LONGEST) -> str:
    """`text` in one line: what is not printable (line breaks, escape sequences of terminals, marks that turn the
    direction of writing, lone surrogates) as Python writes it, and an ellipsis for what is longer than `longest`."""
    text = str(text)
    if longest is not None and len(text) > longest:
        text = text[: longest - 1] + "…"
    return "".join(
        char if char.isprintable() or char == _JOINS_EMOJI else char.encode("unicode_escape").decode("ascii")
        for char in text
    )


def markdown(text: object) -> str:
    """`text` as it is (`printable`) in running text or in a cell of a table, none of it as Markdown or HTML."""
    return re.sub(r"([\\`*\[\]<>&|#~$])", r"\\\1", printable(text))


def code(text: object) -> str:
    """`text` as it is (`printable`) as code in running text."""
    text = printable(text)
    marks = "`" * (_longest_run(text) + 1)
    space = " " if "`" in text else ""
    return f"{marks}{space}{text}{space}{marks}"


def code_block(text: str, language: str) -> str:
    """`text`, of several lines, as a block of code."""
    marks = "`" * max(3, _longest_run(text) + 1)
    lines = "\n".join(printable(line, None) for line in text.split("\n"))
    return f"{marks}{language}\n{lines}\n{marks}"


def _longest_run(text: str) -> int:
    return max(map(len, re.findall("`+", text)), default=0)


def table(head: Sequence[str], rows: Iterable[Sequence[object]], align: str | None = None) -> str:
    """A Markdown table without a line break at its end.

    Args:
        head: titles of the columns.
        rows: cells, turned into text, in Markdown; names of others go through `markdown`. Line breaks and bars cannot
            cut a cell in two.
        align: "l" or "r" for every column, default left.
    """
    rules = ["---:" if side == "r" else "---" for side in align or "l" * len(head)]
    lines = [head, rules, *rows]
    if wrong := [line for line in lines if len(line) != len(head)]:
        raise ValueError(f"a table of {len(head)} columns has a row of {len(wrong[0])}: {list(wrong[0])}")
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)


def _cell(cell: object) -> str:
    return re.sub(r"(?<!\\)\|", r"\\|", printable(cell, None))


def percent(share: float) -> str:
    """A share in per cent with one digit, the same on every Python: deviations differ in their last bits."""
    return f"{round(100 * share, 6):.1f}"
