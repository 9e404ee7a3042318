"""`flux-hf push`, `Trainer(push_to_hub=True)` and loading by id, over HTTP against the Hub of tests/hub_server.py.

The client runs in processes of its own, forks of one: huggingface_hub reads the Hub's address when it is imported.
"""

import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from threading import Event

import pytest
import torch
import yaml

from flux_hf import FluxVideoProcessor, FluxViTForVideoClassification
from flux_hf.plugin import enable_flux
from flux_hf.text.index import weights_hash
from tests import tiny_aligning, tiny_pretraining
from tests.hub_repository import File, Repository
from tests.hub_server import HubServer
from tests.stock_models import videomae
from tests.video_files import encode_video
from tests.warm_python import WarmPython

ROOT = Path(__file__).resolve().parent.parent
TOKEN, OTHER_TOKEN, WRONG_TOKEN = "hf_rightRIGHTright", "hf_otherOTHERother", "hf_wrongWRONGwrong"

PUSH = "import sys; from flux_hf.cli import main; main(['push', *sys.argv[1:]])"

PUSH_EACH = """
import json, os, sys
from huggingface_hub import HfApi
from flux_hf.cli import main
HfApi().create_repo("me/open")
said = []
for index, arguments in enumerate(json.loads(sys.argv[2])):
    os.environ.pop("HF_TOKEN", None)
    if f"CASE{index}" in os.environ:
        os.environ["HF_TOKEN"] = os.environ[f"CASE{index}"]
    try:
        main(["push", sys.argv[1], *arguments])
    except SystemExit as stop:
        said.append(str(stop))
print(json.dumps(said))
"""

LOAD = """
import json, sys
import torch
from transformers import AutoModelForVideoClassification, AutoVideoProcessor, pipeline
repo, revision, clip, package = sys.argv[1:]
options = {"revision": revision}
if package == "yes":
    import flux_hf
else:
    sys.modules["flux_hf"] = None
    options["trust_remote_code"] = True
model = AutoModelForVideoClassification.from_pretrained(repo, **options).eval()
processor = AutoVideoProcessor.from_pretrained(repo, **options)
with torch.no_grad():
    logits = model(**processor(clip, return_tensors="pt")).logits[0].tolist()
scores = pipeline("video-classification", model=repo, **options)(clip, function_to_apply="none")
print(json.dumps({"logits": logits, "best": scores[0]["score"], "module": type(model).__module__}))
"""

LOAD_PRETRAINED = """
import json, sys
import torch
sys.modules["flux_hf"] = None
from transformers import AutoModel, AutoVideoProcessor
model = AutoModel.from_pretrained(sys.argv[1], trust_remote_code=True).eval()
processor = AutoVideoProcessor.from_pretrained(sys.argv[1], trust_remote_code=True)
with torch.no_grad():
    feature = model(**processor(sys.argv[2], token_budget=8, return_tensors="pt")).pooler_output
print(json.dumps(feature[0].tolist()))
"""

TRAIN = """
import sys
import zipfile
import torch
from transformers import Trainer, TrainingArguments
from flux_hf import FluxVideoProcessor, FluxViTForVideoClassification

checkpoint, output = sys.argv[1:]
items = [{"pixel_values_videos": torch.randn(4, 3, 56, 56), "labels": i % 4, "token_budget": 48} for i in range(4)]


def collate(rows):
    videos = torch.stack([row["pixel_values_videos"] for row in rows])
    return {"pixel_values_videos": videos, "labels": torch.tensor([row["labels"] for row in rows]), "token_budget": 48}


arguments = TrainingArguments(
    output, max_steps=2, per_device_train_batch_size=2, push_to_hub=True, hub_model_id="me/trained", use_cpu=True,
    hub_private_repo=True, remove_unused_columns=False, logging_steps=1, save_steps=1, hub_strategy="end",
)
trainer = Trainer(
    model=FluxViTForVideoClassification.from_pretrained(checkpoint), args=arguments, train_dataset=items,
    data_collator=collate, processing_class=FluxVideoProcessor.from_pretrained(checkpoint),
)
trainer.train()
trainer.push_to_hub()
"""


@pytest.fixture(scope="module")
def server():
    with HubServer({TOKEN: "me", OTHER_TOKEN: "you"}) as server:
        yield server


@pytest.fixture
def hub(server):
    """The Hub without repositories."""
    server.clear()
    return server


def client_environment(endpoint: str, home: Path) -> dict[str, str]:
    """At the most talkative log level."""
    return {k: v for k, v in os.environ.items() if not k.startswith("HF_")} | {
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_XET": "1",
        "HF_DEBUG": "1",
        "HF_HUB_VERBOSITY": "debug",
        "TRANSFORMERS_VERBOSITY": "debug",
        "PYTHONPATH": str(ROOT),
    }


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("hub") / "home"


@pytest.fixture(scope="module")
def warm_client(server, home):
    with WarmPython(client_environment(server.url, home)) as python:
        yield python


@pytest.fixture
def client(hub, warm_client, home, tmp_path):
    """Runs Python code as a client of the Hub, with an empty cache."""

    def run(code: str, *arguments, token: str = TOKEN, **variables) -> subprocess.CompletedProcess:
        shutil.rmtree(home, ignore_errors=True)
        done = warm_client.run(code, *arguments, cwd=tmp_path, HF_TOKEN=token, **variables)
        assert_no_token_in(done.stdout + done.stderr)
        return done

    return run


def assert_no_token_in(text: str):
    for token in (TOKEN, OTHER_TOKEN, WRONG_TOKEN):
        assert token not in text


def succeed(done: subprocess.CompletedProcess) -> str:
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def last_line(errors: str) -> str:
    return next(line for line in reversed(errors.splitlines()) if line.startswith("flux-hf push: error:"))


def test_push_and_load_by_id(hub, client, tiny_checkpoint, make_video):
    """A private repository and a new branch; then from a clean cache, with the package and without."""
    output = succeed(client(PUSH, tiny_checkpoint, "me/tiny", "--private", "true", "--revision", "v1"))
    repository = hub.model("me/tiny")
    assert repository.private
    assert list(repository.files("main")) == [".gitattributes"]
    files = repository.files("v1")
    saved = {path.name: path.read_bytes() for path in tiny_checkpoint.iterdir()}
    assert {name: files[name] for name in saved} == saved
    assert files.keys() - saved.keys() == {".gitattributes", "README.md"}
    assert all(name in output for name in saved)
    assert hub.blobs.keys() == {repository.commits[repository.resolve("v1")]["model.safetensors"].etag}
    assert not any(TOKEN.encode() in content for content in files.values())
    metadata = yaml.safe_load(files["README.md"].split(b"---\n")[1])
    assert metadata["pipeline_tag"] == "video-classification"

    clip = make_video("clip.mp4")
    model = FluxViTForVideoClassification.from_pretrained(tiny_checkpoint).eval()
    inputs = FluxVideoProcessor.from_pretrained(tiny_checkpoint)(clip, return_tensors="pt")
    expected = model(**inputs).logits[0].tolist()
    for package, module in (("yes", "flux_hf"), ("no", "transformers_modules")):
        found = json.loads(succeed(client(LOAD, "me/tiny", "v1", clip, package)).splitlines()[-1])
        assert found["module"].split(".")[0] == module
        assert found["logits"] == pytest.approx(expected, abs=1e-5)
        assert found["best"] == pytest.approx(max(expected), abs=1e-5)
    refused = client(LOAD, "me/tiny", "v1", clip, "yes", token=OTHER_TOKEN)
    assert refused.returncode != 0 and "me/tiny" in refused.stderr


def test_push_what_pretraining_saved(hub, client, tmp_path, make_video):
    """The card is that of an encoder, whose features are those of the folder, also without the package."""
    student, processor = tiny_pretraining.student().eval(), FluxVideoProcessor(patch_size=14)
    student.save_pretrained(tmp_path / "student")
    processor.save_pretrained(tmp_path / "student")
    succeed(client(PUSH, tmp_path / "student", "me/student"))
    files = hub.model("me/student").files()
    assert files["model.safetensors"] == (tmp_path / "student" / "model.safetensors").read_bytes()
    _, metadata, text = files["README.md"].decode().split("---\n", 2)
    assert yaml.safe_load(metadata)["pipeline_tag"] == "feature-extraction"
    assert "--model me/student" in text and "## Accuracy" not in text

    clip = make_video("clip.mp4")
    found = json.loads(succeed(client(LOAD_PRETRAINED, "me/student", clip)).splitlines()[-1])
    with torch.no_grad():
        inputs = processor(clip, token_budget=8, return_tensors="pt")
        expected = student.fluxvit(**inputs).pooler_output[0].tolist()
    assert found == pytest.approx(expected, abs=1e-5)


LOAD_DUAL_ENCODER = """
import json, sys
import torch
sys.modules["flux_hf"] = None
from transformers import AutoModel, AutoProcessor
model = AutoModel.from_pretrained(sys.argv[1], trust_remote_code=True).eval()
processor = AutoProcessor.from_pretrained(sys.argv[1], trust_remote_code=True)
with torch.no_grad():
    output = model(**processor(videos=[sys.argv[2]], text=["a dark clip"], token_budget=8, return_tensors="pt"))
print(json.dumps(output.logits_per_video[0].tolist()))
"""


ASKED_BEFORE_LOADING = """
import json, sys
from flux_hf.modeling.modeling_fluxvit_clip import sentence_transformers_pooling
from flux_hf.text.index import weights_hash
print(json.dumps([weights_hash(sys.argv[1]), *map(sentence_transformers_pooling, sys.argv[1:])]))
"""


def test_what_is_asked_of_a_checkpoint_before_it_is_loaded(hub, client, tmp_path):
    """The weights, of which an index knows the hash, and how sentence-transformers pools: the cache has neither."""
    torch.manual_seed(0)
    tiny_aligning.text_tower().save_pretrained(tmp_path / "cls")
    (tmp_path / "cls" / "1_Pooling").mkdir()
    (tmp_path / "cls" / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    for name, left_out in (("cls", ()), ("plain", ("1_Pooling/config.json",))):
        files = {str(path.relative_to(tmp_path / "cls")): path for path in (tmp_path / "cls").rglob("*.*")}
        hub.repositories["models", f"me/{name}"] = Repository()
        content = {file: File(path.read_bytes(), path.suffix == ".safetensors") for file, path in files.items()}
        hub.blobs |= {file.etag: file.content for file in content.values() if file.lfs}
        kept = {file: content[file] for file in content.keys() - set(left_out)}
        hub.model(f"me/{name}").commit("main", kept, "text tower")
    found = json.loads(succeed(client(ASKED_BEFORE_LOADING, "me/cls", "me/plain")).splitlines()[-1])
    assert found == [weights_hash(tmp_path / "cls"), "cls", None]


@pytest.mark.slow
def test_push_a_dual_encoder(hub, client, tmp_path, make_video):
    """With its tokenizer; it answers as it did, also without the package."""
    folder, model, processor = tmp_path / "words", tiny_aligning.model().eval(), tiny_aligning.processor()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    (folder / "tokenizer.json").rename(tmp_path / "tokenizer.json")
    (folder / "tokenizer_config.json").rename(tmp_path / "tokenizer_config.json")
    lacking = client(PUSH, folder, "me/words")
    assert "lacks tokenizer" in last_line(lacking.stderr)
    for path in tmp_path.glob("tokenizer*.json"):
        path.rename(folder / path.name)
    succeed(client(PUSH, folder, "me/words", "--measure_latency"))
    _, metadata, text = hub.model("me/words").files()["README.md"].decode().split("---\n", 2)
    data = yaml.safe_load(metadata)
    assert "license" not in data and data["tags"][:3] == ["fluxvit_clip", "video", "zero-shot-video-classification"]
    assert 'model="me/words"' in text and "text encoder (bert)" in text and "## How to fine-tune" not in text

    clip = make_video("clip.mp4")
    found = json.loads(succeed(client(LOAD_DUAL_ENCODER, "me/words", clip)).splitlines()[-1])
    with torch.no_grad():
        inputs = processor(videos=[clip], text=["a dark clip"], token_budget=8, return_tensors="pt")
        expected = model(**inputs).logits_per_video[0].tolist()
    assert found == pytest.approx(expected, abs=1e-4)


@pytest.mark.slow
def test_push_a_model_of_another_family(hub, client, tmp_path, make_video):
    """The card names the base that the folder's old card named, with the licence that the base's card says."""
    folder, model = tmp_path / "videomae", enable_flux(videomae(), 16).eval()
    model.save_pretrained(folder)
    FluxVideoProcessor.for_model(model).save_pretrained(folder)
    (folder / "README.md").write_text("---\nbase_model: them/base\n---\n")
    base = hub.repositories["models", "them/base"] = Repository()
    base.commit("main", {"README.md": File(b"---\nlicense: cc-by-nc-4.0\n---\n", lfs=False)}, "card")
    succeed(client(PUSH, folder, "me/videomae"))
    _, metadata, text = hub.model("me/videomae").files()["README.md"].decode().split("---\n", 2)
    metadata = yaml.safe_load(metadata)
    assert (metadata["license"], metadata["base_model"]) == ("cc-by-nc-4.0", "them/base")
    assert "cc-by-nc-4.0, as them/base" in text and "MIT" not in text

    clip = make_video("clip.mp4")
    with torch.no_grad():
        expected = model(**FluxVideoProcessor.from_pretrained(folder)(clip, return_tensors="pt")).logits[0].tolist()
    found = json.loads(succeed(client(LOAD, "me/videomae", "main", clip, "no")).splitlines()[-1])
    assert found["logits"] == pytest.approx(expected, abs=1e-5)
    assert found["best"] == pytest.approx(max(expected), abs=1e-5)


def test_no_evaluations_of_what_has_no_classifier(tmp_path):
    from flux_hf.hub import PushOptions, push

    tiny_pretraining.student().save_pretrained(tmp_path)
    FluxVideoProcessor(patch_size=14).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="evaluations: .* holds no classifier but FluxViTForPreTraining; leave them"):
        push(PushOptions(str(tmp_path), "me/student", evaluations=["evaluation.json"]))


def test_without_a_token_no_model_is_loaded(tiny_checkpoint, tmp_path, monkeypatch):
    from flux_hf.hub import PushOptions, push

    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no_token"))
    folder = shutil.copytree(tiny_checkpoint, tmp_path / "broken")
    (folder / "model.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match="^no access token: "):
        push(PushOptions(str(folder), "me/tiny"))


REFUSALS = [
    (None, ["me/tiny"], "no access token: run `hf auth login`, or set the variable HF_TOKEN"),
    (WRONG_TOKEN, ["me/tiny"], "does not know the access token"),
    (OTHER_TOKEN, ["me/tiny"], "You don't have the rights to create a model under the namespace me"),
    (TOKEN, ["me/open", "--private", "true"], "me/open exists and is public"),
    (TOKEN, ["tiny"], "repo_id must be user/name, got 'tiny'"),
    (TOKEN, ["me/ti ny"], "repo_id 'me/ti ny'"),
]


def test_refusals(hub, client, tiny_checkpoint):
    environment = {f"CASE{index}": token for index, (token, _, _) in enumerate(REFUSALS) if token}
    done = client(PUSH_EACH, tiny_checkpoint, json.dumps([each for _, each, _ in REFUSALS]), **environment)
    said = json.loads(succeed(done).splitlines()[-1])
    assert len(said) == len(REFUSALS)
    for (_, _, message), answer in zip(REFUSALS, said, strict=True):
        assert answer.startswith("flux-hf push: error: ") and message in answer
    assert not hub.blobs


def test_incomplete_folders_are_refused(tmp_path, tiny_checkpoint):
    from flux_hf.hub import PushOptions, push

    FluxViTForVideoClassification.from_pretrained(tiny_checkpoint).save_pretrained(tmp_path / "model")
    with pytest.raises(ValueError, match=r"lacks video_preprocessor_config\.json; save"):
        push(PushOptions(str(tmp_path / "model"), "me/tiny"))
    folder = shutil.copytree(tiny_checkpoint, tmp_path / "without code")
    for name in ("modeling_fluxvit.py", "video_processing_fluxvit.py"):
        (folder / name).unlink()
    with pytest.raises(ValueError, match=r"lacks modeling_fluxvit\.py, video_processing_fluxvit\.py; save"):
        push(PushOptions(str(folder), "me/tiny"))
    with pytest.raises(ValueError, match="absent is not a folder"):
        push(PushOptions(str(tmp_path / "absent"), "me/tiny"))


def start(endpoint: str, folder: Path, tmp_path: Path) -> subprocess.Popen:
    """Begins to push a folder, in a process that is not forked."""
    command = [sys.executable, "-c", PUSH, str(folder), "me/tiny"]
    environment = client_environment(endpoint, tmp_path / "home") | {"HF_TOKEN": TOKEN}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_a_hub_that_is_not_there(tiny_checkpoint, tmp_path):
    process = start("http://127.0.0.1:9", tiny_checkpoint, tmp_path)
    output, errors = process.communicate(timeout=300)
    assert_no_token_in(output + errors)
    assert process.returncode == 1
    assert "cannot reach the Hub at http://127.0.0.1:9" in last_line(errors)


@pytest.mark.parametrize("silent", ["/whoami", pytest.param("/commit/", marks=pytest.mark.slow)])
def test_a_hub_that_does_not_answer(hub, client, tiny_checkpoint, silent):
    silence = Event()
    hub.interrupt = lambda method, path: silent in path and silence.wait(60)
    done = client(PUSH, tiny_checkpoint, "me/tiny", "--timeout", "0.3")
    silence.set()
    assert done.returncode == 1
    said = f"cannot reach the Hub at {hub.url}: no answer in 0.3 s (--timeout); run the command again"
    assert last_line(done.stderr) == f"flux-hf push: error: {said}"


@pytest.mark.slow
def test_uploads_that_are_cut_each_time(hub, client, tiny_checkpoint):
    hub.interrupt = lambda method, path: (method, path[:5]) == ("PUT", "/lfs/")
    done = client(PUSH, tiny_checkpoint, "me/tiny")
    assert done.returncode == 1
    assert f"the upload to {hub.url} failed: Error while uploading 'model.safetensors'" in last_line(done.stderr)
    assert hub.count("PUT", "/lfs/") == 6

    hub.interrupt = None
    succeed(client(PUSH, tiny_checkpoint, "me/tiny"))
    assert hub.model("me/tiny").files()["model.safetensors"] == (tiny_checkpoint / "model.safetensors").read_bytes()


@pytest.mark.slow
def test_interrupted_upload_completes_when_run_again(hub, client, tiny_checkpoint, tmp_path):
    """The client dies after the weights arrived and before they became a commit."""
    hub.interrupt = lambda method, path: "/commit/" in path and running[0].kill() is None
    running = []
    running.append(start(hub.url, tiny_checkpoint, tmp_path))
    assert_no_token_in("".join(running[0].communicate(timeout=300)))
    assert running[0].returncode == -9
    assert len(hub.blobs) == 1
    assert list(hub.model("me/tiny").files()) == [".gitattributes"]

    hub.interrupt = None
    succeed(client(PUSH, tiny_checkpoint, "me/tiny"))
    files = hub.model("me/tiny").files()
    assert files["model.safetensors"] == (tiny_checkpoint / "model.safetensors").read_bytes()
    assert hub.count("PUT", "/lfs/") == 1
    assert len(hub.model("me/tiny").messages) == 2


@pytest.mark.slow
def test_trainer_pushes(hub, client, tiny_checkpoint, tmp_path):
    succeed(client(TRAIN, tiny_checkpoint, tmp_path / "run"))
    repository = hub.model("me/trained")
    files = repository.files()
    assert repository.private
    assert {"config.json", "model.safetensors", "video_preprocessor_config.json", "README.md"} <= files.keys()
    assert {path.name for path in tiny_checkpoint.glob("*.py")} <= files.keys()
    assert not any(TOKEN.encode() in content for content in files.values())
    trained = FluxViTForVideoClassification.from_pretrained(tmp_path / "run")
    assert trained.config.id2label == FluxViTForVideoClassification.from_pretrained(tiny_checkpoint).config.id2label

    output = succeed(client(PUSH, tmp_path / "run", "me/by-hand"))
    left = next(line for line in output.splitlines() if line.startswith("left out"))
    assert "training_args.bin" in left and "checkpoint-2/" in left
    pushed = hub.model("me/by-hand").files()
    assert pushed["model.safetensors"] == files["model.safetensors"]
    assert "training_args.bin" not in pushed


READ = """
import json, sys
from flux_hf.processing.video_decoding_fluxvit import read_video
for address in sys.argv[1:]:
    try:
        print(json.dumps(read_video(address, [3])[0].shape))
    except ValueError as error:
        print(json.dumps(f"{type(error).__name__}: {error}"))
"""


@pytest.mark.long
def test_videos_on_the_hub(hub, client):
    clip, archive = encode_video(10), io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a/x.mp4", clip)
    hub.repositories["datasets", "me/set"] = Repository(private=True)
    hub.repositories["datasets", "me/set"].commit(
        "main", {"clips/x.mp4": File(clip, lfs=True), "v.zip": File(archive.getvalue(), lfs=True)}, "clips"
    )
    addresses = ("clips/x.mp4", "v.zip", "gone.mp4")
    addresses = [f"hf://datasets/me/set/{name}" for name in addresses]
    addresses[1] = f"zip://a/x.mp4::{addresses[1]}"
    found, zipped, missing = map(json.loads, succeed(client(READ, *addresses)).splitlines()[-3:])
    assert found == zipped == [1, 96, 128, 3]
    assert missing.startswith(f"VideoDecodeError: Cannot decode {addresses[2]}: it cannot be opened: FileNotFoundError")
    refused = json.loads(succeed(client(READ, addresses[0], token=WRONG_TOKEN)).splitlines()[-1])
    assert refused.startswith("VideoDecodeError: ") and "401" in refused
