"""Markdown tables."""

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[object]], align: str | None = None) -> str:
    """A Markdown table without a line break at its end.

    Args:
        head: titles of the columns.
        rows: cells, turned into text.
        align: "l" or "r" for every column, default left.
    """
    rules = ["---:" if side == "r" else "---" for side in align or "l" * len(head)]
    lines = [head, rules, *rows]
    if wrong := [line for line in lines if len(line) != len(head)]:
        raise ValueError(f"a table of {len(head)} columns has a row of {len(wrong[0])}: {list(wrong[0])}")
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def percent(share: float) -> str:
    """A share in per cent with one digit, the same on every Python: deviations differ in their last bits."""
    return f"{round(100 * share, 6):.1f}"
