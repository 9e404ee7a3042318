"""Token budgets on the command line: numbers, and "auto", where every video gets one of its own."""

AUTO = "auto"


class BUDGET(int):
    """The type of such an option; makes an int of a value, and leaves "auto" as it is."""

    def __new__(cls, value):
        return AUTO if value == AUTO else int(value)


def check_budgets(options, *names: str) -> None:
    """Raises ValueError naming the first option of `names` with a budget that is neither an integer of at least 1 nor
    "auto"; None is not given."""
    for name in names:
        value = getattr(options, name)
        for budget in value if isinstance(value, list) else [value]:
            if budget in (None, AUTO):
                continue
            if not isinstance(budget, int) or isinstance(budget, bool):
                raise ValueError(f'--{name} must be an integer or "{AUTO}", got {budget!r}')
            if budget < 1:
                raise ValueError(f"--{name} must be at least 1, got {budget}")
