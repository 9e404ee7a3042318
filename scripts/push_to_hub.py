"""Upload a checkpoint with its model card to the Hub."""

from flux_hf.cli import run_command
from flux_hf.options import parse_options
from flux_hf.options.checkpoints import PushOptions


def main(argv: list[str] | None = None) -> None:
    (options,) = parse_options(PushOptions, argv, __doc__, {"checkpoint": "FOLDER", "repo_id": "USER/NAME"})
    from flux_hf.hub import push

    pushed = push(options)
    print(f"uploaded {', '.join(pushed.files)}")
    if pushed.left_out:
        print(f"left out {', '.join(pushed.left_out)}")
    print(pushed.url)


if __name__ == "__main__":
    run_command("flux-hf push", main)
