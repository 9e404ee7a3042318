"""Print the versions that a bug report should name."""

import platform
from importlib import metadata

import flux_hf
from flux_hf.cli import run_command
from flux_hf.options import parse_options

PACKAGES = ("torch", "torchvision", "transformers", "accelerate", "datasets", "huggingface_hub", "numpy", "av")


def main(argv: list[str] | None = None) -> None:
    parse_options((), argv, __doc__)
    facts = environment()
    width = max(map(len, facts))
    print("\n".join(f"{name:<{width}}  {value}" for name, value in facts.items()))


def environment() -> dict[str, str]:
    """Versions of everything that decoding and computing depend on."""
    import av
    import torch

    facts = {"flux_hf": flux_hf.__version__, "python": platform.python_version(), "platform": platform.platform()}
    for package in PACKAGES:
        try:
            facts[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            facts[package] = "not installed"
    for library, version in sorted(av.library_versions.items()):
        facts[library] = ".".join(map(str, version))
    facts["cpu capability"] = f"{torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads"
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    facts["gpu"] = ", ".join(gpus) if torch.cuda.is_available() else "none"
    return facts


if __name__ == "__main__":
    run_command("flux-hf env", main)
