"""Fourteen pairs of Meta-World tasks that undo each other: what one does to its object, the other takes back."""

PAIRS = (
    ("door-open", "door-close"),
    ("drawer-open", "drawer-close"),
    ("window-open", "window-close"),
    ("faucet-open", "faucet-close"),
    ("door-lock", "door-unlock"),
    ("handle-press", "handle-pull"),
    ("handle-press-side", "handle-pull-side"),
    ("peg-insert-side", "peg-unplug-side"),
    ("assembly", "disassemble"),
    ("coffee-push", "coffee-pull"),
    ("plate-slide", "plate-slide-back"),
    ("plate-slide-side", "plate-slide-back-side"),
    ("stick-push", "stick-pull"),
    ("push", "push-back"),
)

TASKS = tuple(sorted(task for pair in PAIRS for task in pair))

OPPOSITE = {task: other for pair in PAIRS for task, other in (pair, pair[::-1])}
