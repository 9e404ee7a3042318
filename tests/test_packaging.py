"""What is declared, what is shipped, and (slow) what a user gets who really installs the package."""

import ast
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import warnings
import zipfile
from collections import Counter
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from setuptools.config.pyprojecttoml import read_configuration
from transformers.dynamic_module_utils import get_imports, get_relative_imports

import flux_hf
from flux_hf.checkpoints import example_clips
from flux_hf.cli import COMMANDS
from tests.requirements import requirements, setup_arguments
from tests.transformers_suite import REGISTRY_SILENT

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = sorted(path for folder in ("modeling", "processing") for path in (ROOT / folder).glob("[!_]*.py"))
PACKAGED = sorted(
    path
    for top in ("flux_hf", "modeling", "processing", "scripts")
    for path in (ROOT / top).rglob("*.py")
    if path.parent.parent.name != "checkpoints"
)
TESTS = sorted((ROOT / "tests").rglob("*.py"))
OURS = {"flux_hf", "tests", "hf_tests"}
DISTRIBUTION_OF = {"PIL": "pillow", "huggingface_hub": "huggingface-hub", "skvideo": "scikit-video", "yaml": "pyyaml"}
DISTRIBUTION_OF |= {"cv2": "opencv-python-headless", "sklearn": "scikit-learn", "_pytest": "pytest"}
DISTRIBUTION_OF |= {"gradio_client": "gradio", "starlette": "gradio"}
NEED_MORE = {
    "flux_timm.py": {"timm"},
    "words.py": {"tokenizers"},
    "composing.py": {"matplotlib"},
    "episodes.py": {"metaworld", "mujoco"},
    "scenes.py": {"mujoco"},
    "flow_baseline.py": {"opencv-python-headless", "scikit-learn"},
    "flow_teacher.py": {"opencv-python-headless"},
    "mujoco_rendering.py": {"mujoco"},
    "page.py": {"gradio"},
    "serving.py": {"gradio"},
}
ALLOWED_IN_SHIPPED_FILES = {"torch", "torchvision", "transformers", "huggingface_hub", "fsspec", "numpy", "av"}

REPORT = """
import json, importlib, pathlib
import flux_hf, flux_hf.modeling, flux_hf.processing, flux_hf.scripts
checkpoint = pathlib.Path(flux_hf.default_checkpoint())
scripts = pathlib.Path(flux_hf.scripts.__file__).parent
print(json.dumps({
    "packages": [m.__file__ for m in (flux_hf, flux_hf.modeling, flux_hf.processing, flux_hf.scripts)],
    "public": [getattr(flux_hf, name).__class__.__name__ for name in flux_hf.__all__],
    "model_module": flux_hf.FluxViTModel.__module__,
    "checkpoint": sorted(p.name for p in checkpoint.iterdir()),
    "configs": sorted(str(p.relative_to(scripts)) for p in (scripts / "configs").rglob("*") if p.is_file()),
    "scripts": sorted(importlib.import_module(f"flux_hf.scripts.{p.stem}").__name__ for p in scripts.glob("[!_]*.py")),
}))
"""


def is_run_from_a_clone(path: Path) -> bool:
    return {"benchmarks", "experiments", "space"} & set(path.parts) != set()


def declared(*extras: str) -> dict[str, Requirement]:
    """The requirements in setup.py by normalised name, with those of the named extras."""
    return {requirement.name.lower(): requirement for requirement in map(Requirement, requirements(*extras))}


def third_party_imports(path: Path, *, only_top_level: bool) -> set[str]:
    """Distributions a file imports; with `only_top_level` those it needs as soon as it is imported."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = set()
    for node in tree.body if only_top_level else ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module.split(".")[0])
    return {DISTRIBUTION_OF.get(name, name) for name in names - set(sys.stdlib_module_names) - OURS}


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", PACKAGED, ids=relative)
def test_imports_of_the_package_are_declared(path):
    assert third_party_imports(path, only_top_level=True) <= set(declared()) | NEED_MORE.get(path.name, set())
    assert third_party_imports(path, only_top_level=False) <= set(declared("dev", "benchmark", "manipulation", "ray"))


@pytest.mark.parametrize("path", TESTS, ids=relative)
def test_imports_of_the_tests_are_declared(path):
    assert third_party_imports(path, only_top_level=False) <= set(declared("test"))


def test_every_dependency_has_a_bound():
    """But for those that only others need to be of some age."""
    unbound = {name for name, r in declared("dev").items() if not any(s.operator in (">=", "==") for s in r.specifier)}
    assert unbound == {"filelock", "packaging", "pyarrow", "tokenizers", "tqdm"}


def test_one_place_for_every_fact():
    project = read_configuration(ROOT / "pyproject.toml", expand=False)["project"]
    assert set(project["dynamic"]) == {"version", "dependencies", "optional-dependencies"}
    assert not {"version", "dependencies", "optional-dependencies"} & set(project)
    assert flux_hf.__version__ == "0.1.0"


def test_every_package_is_packaged(monkeypatch):
    monkeypatch.chdir(ROOT)  # where setup.py looks for packages
    captured = setup_arguments()
    folders = {ROOT / captured["package_dir"].get(name, name.replace(".", "/")) for name in captured["packages"]}
    assert {path.parent for path in PACKAGED if not is_run_from_a_clone(path.relative_to(ROOT))} == folders


@pytest.mark.parametrize("module", ["transformers.models", "torch.nn", "torchvision.ops", "flux_hf.modeling.x"])
@pytest.mark.parametrize("category", [DeprecationWarning, FutureWarning, PendingDeprecationWarning])
def test_deprecations_fail_the_tests(module, category):
    with pytest.raises(category):
        warnings.warn_explicit("old", category, "file.py", 1, module=module)


@pytest.mark.parametrize("path", SHIPPED, ids=relative)
def test_shipped_files_load_without_the_package(path):
    """Rules of Transformers' remote code: it copies files by pattern and flattens them into one folder."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    froms = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert "__future__" not in {node.module for node in froms}, "annotations as strings break configs and models"

    neighbours = {other.stem for other in path.parent.glob("*.py")}
    seen_by_transformers = set(get_relative_imports(path))
    assert seen_by_transformers <= neighbours
    assert {(node.level, node.module) for node in froms if node.level} == {(1, name) for name in seen_by_transformers}

    allowed = ALLOWED_IN_SHIPPED_FILES | NEED_MORE.get(path.name, set())
    assert set(get_imports(path)) - set(sys.stdlib_module_names) <= allowed


def test_shipped_files_keep_apart_when_flattened():
    assert SHIPPED
    assert [name for name, count in Counter(path.name for path in SHIPPED).items() if count > 1] == []


def run(*command, cwd: Path, **environment: str) -> str:
    """Standard output of a command that has to succeed, run without this process's import settings."""
    inherited = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    process = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=inherited | environment, capture_output=True, text=True
    )
    assert process.returncode == 0, f"{' '.join(map(str, command))}\n{process.stdout}\n{process.stderr}"
    return process.stdout


class Environment:
    """A new virtual environment that sees the dependencies of this one, but not the package."""

    def __init__(self, folder: Path):
        self.folder = folder
        run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
        self.python = folder / "bin" / "python"
        self.site = Path(
            run(self.python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder)[:-1]
        )
        # A path named in a .pth file is searched, but .pth files in there (an editable install) are not followed.
        (self.site / "outer.pth").write_text(sysconfig.get_path("purelib") + "\n")

    def install(self, *what):
        options = ["--quiet", "--no-deps", "--no-build-isolation", "--force-reinstall", "--no-index"]
        run(sys.executable, "-m", "pip", "--python", self.python, "install", *options, *what, cwd=self.folder)

    def report(self, cwd: Path, *options: str) -> dict:
        return json.loads(run(self.python, *options, "-c", REPORT, cwd=cwd))


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """A copy of the source tree, because building leaves files behind."""
    folder = tmp_path_factory.mktemp("checkout") / "source"
    leftovers = shutil.ignore_patterns(".git", "build", "dist", "runs", "*.egg-info", "__pycache__", ".*_cache")

    def ignore(directory: str, names: list[str]) -> set[str]:
        environments = {name for name in names if (Path(directory) / name / "pyvenv.cfg").exists()}
        return environments | set(leftovers(directory, names))

    shutil.copytree(ROOT, folder, ignore=ignore)
    return folder


@pytest.fixture(scope="module")
def wheel(checkout, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    run(sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", folder, checkout, cwd=folder)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def expected(checkout) -> dict:
    """What every way to run the package has to find, read from the source tree."""
    scripts = checkout / "scripts"
    return {
        "model_module": "flux_hf.modeling.modeling_fluxvit",
        "configs": sorted(
            str(path.relative_to(scripts)) for path in (scripts / "configs").rglob("*") if path.is_file()
        ),
        "scripts": sorted(f"flux_hf.scripts.{path.stem}" for path in scripts.glob("[!_]*.py")),
    }


def check(report: dict, expected: dict, home: Path):
    """The report names everything expected and every package lies below `home`."""
    assert {key: report[key] for key in expected} == expected
    assert expected["configs"] and expected["scripts"]
    assert {"config.json", "model.safetensors", "video_preprocessor_config.json"} <= set(report["checkpoint"])
    assert [path for path in report["packages"] if not Path(path).is_relative_to(home)] == []


@pytest.mark.slow
def test_wheel_holds_one_package_with_its_data(wheel, checkout):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"flux_hf", f"flux_hf-{flux_hf.__version__}.dist-info"}
    sources = {"flux_hf": "flux_hf", **{f"flux_hf/{name}": name for name in ("modeling", "processing", "scripts")}}
    for home, folder in sources.items():
        for path in (checkout / folder).rglob("*"):
            if path.is_file() and path.suffix != ".pyc":
                packaged = f"{home}/{path.relative_to(checkout / folder).as_posix()}" in names
                assert packaged != is_run_from_a_clone(path.relative_to(checkout))


@pytest.mark.slow
def test_wheel_install(wheel, checkout, expected, tmp_path):
    environment = Environment(tmp_path / "venv")
    environment.install(wheel)
    check(environment.report(tmp_path), expected, environment.site)
    check(environment.report(checkout), expected, checkout)
    check(environment.report(checkout, "-I"), expected, environment.site)
    check_command(environment, expected, tmp_path)


@pytest.mark.slow
def test_demo_of_a_wheel_in_an_empty_folder(wheel, tmp_path):
    environment = Environment(tmp_path / "venv")
    environment.install(wheel)
    (tmp_path / "empty").mkdir()
    output = run(environment.python.parent / "flux-hf", "classify", "--demo", cwd=tmp_path / "empty")
    for label in example_clips():
        assert f"{label}.mp4   (expected: {label})\n  ok  budget" in output
    assert not list((tmp_path / "empty").iterdir())


@pytest.mark.slow
def test_editable_install(checkout, expected, tmp_path):
    environment = Environment(tmp_path / "venv")
    environment.install("--editable", checkout)
    check(environment.report(tmp_path), expected, checkout)
    check(environment.report(checkout), expected, checkout)
    check_command(environment, expected, tmp_path)


def check_command(environment: Environment, expected: dict, cwd: Path):
    """The console command lists a command for every script and refuses other names."""
    command = environment.python.parent / "flux-hf"
    assert sorted(f"flux_hf.scripts.{script}" for script in COMMANDS.values()) == expected["scripts"]
    overview = run(command, "--help", cwd=cwd)
    for name in COMMANDS:
        assert f"  {name} " in overview
    refused = subprocess.run([command, "nonsense"], cwd=cwd, capture_output=True, text=True)
    assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 3)


@pytest.mark.slow
def test_checkout_without_install(checkout, expected, tmp_path):
    environment = Environment(tmp_path / "venv")
    check(environment.report(checkout), expected, checkout)
    outcome = run(
        environment.python, "-I", "-m", "pytest", "-q", "tests/test_registration.py", "-k", "public", cwd=checkout
    )
    assert " passed" in outcome


@pytest.mark.slow
@pytest.mark.parametrize("other", ["gradio", "sentence-transformers"])
def test_resolves_beside(other, wheel, tmp_path):
    """pip finds versions of everything for the package and for one that is often installed beside it."""
    options = ["--dry-run", "--ignore-installed", "--quiet", "--report", tmp_path / "report.json"]
    command = [sys.executable, "-m", "pip", "install", *options, wheel, other]
    process = subprocess.run(list(map(str, command)), cwd=tmp_path, capture_output=True, text=True)
    if process.returncode and REGISTRY_SILENT.search(process.stderr) and "conflict" not in process.stderr:
        pytest.skip(f"no registry: {process.stderr.splitlines()[-1]}")
    assert process.returncode == 0, process.stderr
    found = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["install"]
    names = {package["metadata"]["name"].lower().replace("_", "-") for package in found}
    assert {"flux-hf", other, "torch", "transformers"} <= names
