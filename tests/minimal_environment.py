"""A virtual environment in which only named packages and what they require can be imported."""

import subprocess
import sys
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def requirement_closure(names: list[str]) -> set[str]:
    """The installed distributions that `names` need to run, themselves included; extras left out."""
    closure, waiting = set(), [canonicalize_name(name) for name in names]
    while waiting:
        name = waiting.pop()
        if name in closure:
            continue
        try:
            lines = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue  # required for other systems only
        closure.add(name)
        needed = [Requirement(line) for line in lines]
        waiting += [canonicalize_name(r.name) for r in needed if r.marker is None or r.marker.evaluate({"extra": ""})]
    return closure


def make_environment(folder: Path, names: list[str]) -> Path:
    """Create the environment and return its Python. The packages are links to those of this environment: nothing is
    installed, and no `.pth` file (an editable install) is followed."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    site = next((folder / "lib").glob("python*")) / "site-packages"
    for name in requirement_closure(names):
        distribution = metadata.distribution(name)
        for top in {file.parts[0] for file in distribution.files if file.parts[0] not in ("..", "__pycache__")}:
            if not top.endswith(".pth") and not (site / top).exists():
                (site / top).symlink_to(distribution.locate_file(top))
    return folder / "bin" / "python"
