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
            number = isinstance(budget, int) and not isinstance(budget, bool) and budget >= 1
            if not number and budget not in (None, AUTO):
                raise ValueError(f'--{name} must be an integer of at least 1 or "{AUTO}", got {budget!r}')
