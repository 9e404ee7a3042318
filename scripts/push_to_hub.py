"""Upload a checkpoint with its model card to the Hub: push FOLDER user/name."""

import sys

from flux_hf.cli import run_command
from flux_hf.hub import PushOptions, push
from flux_hf.options import leading_values, parse_options


def main(argv: list[str] | None = None) -> None:
    argv = leading_values(sys.argv[1:] if argv is None else argv, "checkpoint", "repo_id")
    (options,) = parse_options(PushOptions, argv, __doc__)
    pushed = push(options)
    print(f"uploaded {', '.join(pushed.files)}")
    if pushed.left_out:
        print(f"left out {', '.join(pushed.left_out)}")
    print(pushed.url)


if __name__ == "__main__":
    run_command("push-to-hub", main)
