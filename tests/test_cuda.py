"""What holds on a GPU: the numbers of the CPU, no waiting for the device, CUDA graphs, compilation, training."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForVideoClassification, AutoVideoProcessor, pipeline

from flux_hf import FluxVideoProcessor, FluxViTConfig, FluxViTForVideoClassification, default_checkpoint, enable_flux
from flux_hf.conversion import convert_official_state_dict
from flux_hf.modeling.position_embedding_fluxvit import CACHED_GRIDS
from flux_hf.training.augmentation import ClipAugmentation, random_state
from flux_hf.training.objective import flux_loss_parts
from flux_hf.training.sampling import ClipRequest
from tests import stock_models, tiny_pretraining, tiny_training
from tests.test_conversion import FIXTURE, WEIGHTS
from tests.test_modeling import SIZES, video

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")

DEVICE = "cuda"


def new_model(**changes) -> FluxViTForVideoClassification:
    torch.manual_seed(0)
    return FluxViTForVideoClassification(FluxViTConfig(**SIZES | changes)).eval().to(DEVICE)


@pytest.fixture
def no_waiting():
    """Call it for a context in which whatever waits for the device raises."""

    class NoWaiting:
        def __enter__(self):
            torch.cuda.synchronize()
            torch.cuda.set_sync_debug_mode("error")

        def __exit__(self, *_):
            torch.cuda.set_sync_debug_mode("default")

    yield NoWaiting
    torch.cuda.set_sync_debug_mode("default")


def check_close(found: torch.Tensor, expected: torch.Tensor, bound: float = 1e-3) -> None:
    """Equal to within `bound` times the largest value expected."""
    expected = expected.float().cpu()
    worst = (found.float().cpu() - expected).abs().max().item()
    assert worst <= bound * expected.abs().max().item()


def gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad.detach().cpu() for name, p in model.named_parameters() if p.grad is not None}


def check_gradients(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], bound: float) -> None:
    """As `check_close`; a gradient that is nothing but rounding, as that of a bias of keys, only has to be small."""
    assert found.keys() == expected.keys()
    small = 1e-3 * max(gradient.abs().max() for gradient in expected.values())
    for name, gradient in expected.items():
        atol = bound * max(gradient.abs().max(), small).item()
        torch.testing.assert_close(
            found[name], gradient, atol=atol, rtol=0, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_what_waits_is_noticed(no_waiting):
    """Else the tests below could not fail."""
    numbers = torch.arange(3, device=DEVICE)
    with pytest.raises(RuntimeError, match="synchroniz"), no_waiting():
        numbers.sum().item()
    with pytest.raises(RuntimeError, match="synchroniz"), no_waiting():
        torch.tensor([1, 2], device=DEVICE)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("frames", [1, 4, 6, 8])
@torch.no_grad()
def test_the_numbers_of_the_cpu(attention, frames):
    model = new_model()
    model.set_attn_implementation(attention)
    on_cpu, clip = copy.deepcopy(model).cpu(), video(3, frames, 56, 70)
    total = frames * 20
    for budget in (1, total // 3, total):
        expected, found = on_cpu(clip, token_budget=budget), model(clip.to(DEVICE), token_budget=budget)
        check_close(found.logits, expected.logits)
        if budget < total:
            assert torch.equal(found.keep_mask.cpu(), expected.keep_mask)


@pytest.mark.parametrize("budget", [20, None])
def test_the_gradients_of_the_cpu(budget):
    model, clip, labels = new_model().train(), video(), torch.tensor([1, 4])
    on_cpu = copy.deepcopy(model).cpu()
    on_cpu(clip, token_budget=budget, labels=labels).loss.backward()
    model(clip.to(DEVICE), token_budget=budget, labels=labels.to(DEVICE)).loss.backward()
    check_gradients(gradients(model), gradients(on_cpu), 1e-3)


@pytest.mark.parametrize("case", range(7))
@torch.no_grad()
def test_the_official_output(case):
    with safe_open(FIXTURE, "pt") as file:
        spec = json.loads(file.metadata()["spec"])["cases"][case]
        tensors = {key: file.get_tensor(key) for key in file.keys()}
    weights = {key.removeprefix(WEIGHTS): value for key, value in tensors.items() if key.startswith(WEIGHTS)}
    heads = {"num_attention_heads": 4, "pooler_num_attention_heads": 4}
    model = convert_official_state_dict(weights, **heads, hidden_act="gelu").to(DEVICE)
    pixels = (tensors[f"case{case}.video_uint8"].to(DEVICE).permute(0, 1, 4, 2, 3).float() - 128) / 64
    for head in range(3):
        output = model(pixels, token_budget=spec.get("kept"), head_index=head)
        torch.testing.assert_close(output.logits.cpu(), tensors[f"case{case}.logits_head{head}"], atol=1e-4, rtol=0)
        if output.keep_mask is not None:
            assert torch.equal(output.keep_mask.cpu(), tensors[f"case{case}.keep"].bool())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_half_precision_is_near_single_precision(dtype):
    model, clip = new_model(), video().to(DEVICE)
    whole = model(clip, token_budget=20)
    half = copy.deepcopy(model).to(dtype)(clip.to(dtype), keep_mask=whole.keep_mask)
    check_close(half.logits, whole.logits, 0.05)
    with torch.autocast(DEVICE, dtype):
        autocast = model(clip, token_budget=20)
    assert torch.equal(autocast.keep_mask, whole.keep_mask)
    check_close(autocast.logits, whole.logits, 0.05)


@torch.no_grad()
def test_a_budget_on_the_device_and_a_mask():
    model, clip = new_model(), video().to(DEVICE)
    expected = model(clip, token_budget=20)
    given = model(clip, token_budget=torch.tensor([20, 20], device=DEVICE))
    assert torch.equal(given.keep_mask, expected.keep_mask)
    check_close(given.logits, expected.logits, 1e-5)
    check_close(model(clip, keep_mask=expected.keep_mask).logits, expected.logits, 1e-5)


@pytest.mark.parametrize("frames", [1, 4, 6, 8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_forward_does_not_wait(no_waiting, dtype, frames):
    model, clip = new_model().to(dtype), video(frames=frames).to(DEVICE, dtype)
    for budget in (5, None):
        with torch.no_grad(), no_waiting():
            model(clip, token_budget=budget)
    with torch.inference_mode(), no_waiting():
        model(clip, token_budgets=[8, 5])


@pytest.mark.parametrize("make", [stock_models.videomae, stock_models.vjepa2])
@torch.no_grad()
def test_a_model_with_selection_switched_on(no_waiting, make):
    model, pixels = make().to(DEVICE).eval(), torch.randn(2, 4, 3, 32, 32, device=DEVICE)
    expected = model(pixels).logits
    enable_flux(model)
    assert torch.equal(model(pixels).logits, expected)
    with no_waiting():
        found = model(pixels, token_budget=12)
        several = model(pixels, token_budgets=[24, 12])
    assert torch.equal(several.logits[1], found.logits)
    check_close(found.logits, model.cpu()(pixels.cpu(), keep_mask=found.keep_mask.cpu()).logits)


@pytest.mark.parametrize("several", [False, True])
def test_a_training_step_does_not_wait(no_waiting, several):
    model = new_model(drop_path_rate=0.2).train()
    optimizer = torch.optim.AdamW(model.parameters())
    clip, labels = video().to(DEVICE), torch.tensor([1, 4], device=DEVICE)
    before = copy.deepcopy(model.state_dict())

    def step():
        with torch.autocast(DEVICE, torch.bfloat16):
            if several:
                output = model(clip, token_budgets=[48, 32, 16])
            else:
                loss = model(clip, token_budget=20, labels=labels).loss
        if several:
            loss = sum(flux_loss_parts(output, labels, [48, 32, 16]).values())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    for _ in range(2):  # the first also makes the state of the optimizer
        with no_waiting():
            step()
    changed = [name for name, value in model.state_dict().items() if not torch.equal(value, before[name])]
    assert "fluxvit.embeddings.patch_embedding.projection.weight" in changed


@pytest.mark.parametrize("budget", [20, None])
@torch.no_grad()
def test_a_cuda_graph_gives_the_logits_of_other_pixels(budget):
    model, pixels = new_model(), video(seed=1).to(DEVICE)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(2):
            model(pixels, token_budget=budget)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = model(pixels, token_budget=budget).logits
    expected = {seed: model(video(seed=seed).to(DEVICE), token_budget=budget).logits for seed in (2, 3)}
    # The kept tables of positions make room for others, whose memory is written over.
    for frames in range(9, 10 + CACHED_GRIDS):
        model(video(frames=frames).to(DEVICE))
    model.train().eval()
    overwritten = [torch.full((1 << 16,), 7.0, device=DEVICE) for _ in range(64)]
    for seed, logits in expected.items():
        pixels.copy_(video(seed=seed))
        graph.replay()
        check_close(captured, logits, 1e-5)
    assert (expected[2] - expected[3]).abs().max() > 1e-2 and len(overwritten) == 64


@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
@torch.no_grad()
def test_compiled(mode):
    torch.compiler.reset()
    model = new_model()
    compiled = torch.compile(model, fullgraph=True, mode=mode)
    for seed in range(4):  # reduce-overhead captures its graph at the second
        clip = video(seed=seed).to(DEVICE)
        check_close(compiled(clip, token_budget=20).logits, model(clip, token_budget=20).logits)


def test_compiled_training():
    torch.compiler.reset()
    model, clip, labels = new_model().train(), video().to(DEVICE), torch.tensor([1, 4], device=DEVICE)
    model(clip, token_budget=20, labels=labels).loss.backward()
    expected = gradients(model)
    model.zero_grad()
    torch.compile(model, fullgraph=True)(clip, token_budget=20, labels=labels).loss.backward()
    check_gradients(gradients(model), expected, 1e-2)


def test_the_random_numbers_of_a_view_leave_those_of_the_device_alone():
    before = torch.cuda.get_rng_state()
    with random_state("clip", 1):
        torch.rand(2)
    assert torch.equal(torch.cuda.get_rng_state(), before)


def test_the_processor_makes_the_pixels_of_the_cpu(make_video):
    processor, path = FluxVideoProcessor(token_budget=96), str(make_video("clip.mp4", width=320, height=240))
    on_cpu = processor(path, return_tensors="pt")["pixel_values_videos"]
    found = processor(path, return_tensors="pt", device=DEVICE)["pixel_values_videos"]
    assert found.device.type == DEVICE and found.shape == on_cpu.shape
    level = 1 / 255 / min(processor.image_std)
    difference = (found.cpu() - on_cpu).abs()
    assert difference.max() <= 2 * level and difference.mean() <= 0.2 * level


def test_the_default_checkpoint_in_a_pipeline(make_video):
    clip = str(make_video("clip.mp4", frames=30))
    answers = [
        {entry["label"]: entry["score"] for entry in pipeline("video-classification", default_checkpoint(), **to)(clip)}
        for to in ({"device": DEVICE}, {"device": "cpu"})
    ]
    assert answers[0] == pytest.approx(answers[1], abs=1e-3)


def test_flux_training_goes_on_from_its_checkpoint(tmp_path):
    options = {"use_cpu": False, "bf16": True, "save_strategy": "steps", "save_steps": 2, "seed": 1}
    trainer = tiny_training.trainer(tmp_path, evaluation=tiny_training.clips(6), max_steps=3, **options)
    trainer.train()
    assert next(trainer.model.parameters()).device.type == DEVICE
    assert trainer.state.global_step == 3 and torch.isfinite(torch.tensor(trainer.evaluate()["eval_loss"]))
    again = tiny_training.trainer(tmp_path, max_steps=3, **options)
    again.train(resume_from_checkpoint=str(Path(tmp_path, "checkpoint-2")))
    weights = trainer.model.state_dict()
    for name, value in again.model.state_dict().items():
        torch.testing.assert_close(value, weights[name], atol=1e-3, rtol=1e-2, msg=name)


@pytest.mark.parametrize("mixing", [{}, {"mixup_alpha": 0.8, "cutmix_alpha": 1.0}])
def test_clips_augmented_on_the_gpu_are_those_of_the_cpu(tmp_path, mixing):
    """But for the rounding of resized pixels, which then goes through RandAugment's tables."""
    options = mixing | {"use_cpu": False, "random_colors": True, "random_erasing": 1.0, "rand_augment_ops": 0}
    here, there = (
        next(iter(tiny_training.trainer(tmp_path, augment_on_device=place, **options).get_train_dataloader()))
        for place in (False, True)
    )
    assert there["pixel_values_videos"].is_cuda
    torch.testing.assert_close(here["labels"].cpu(), there["labels"].cpu())
    apart = (here["pixel_values_videos"].cpu() - there["pixel_values_videos"].cpu()).abs()
    assert apart.mean() < 0.01 and (apart < 0.1).float().mean() > 0.99


def test_augmenting_on_the_gpu_does_not_wait(no_waiting, tmp_path):
    args = tiny_training.arguments(tmp_path, use_cpu=False, augment_on_device=True, rand_augment_ops=0)
    augment = ClipAugmentation(args, [0.5, 0.4, 0.3], [0.2, 0.3, 0.4])
    frames = np.zeros((4, 48, 48, 3), np.uint8)
    augment(frames, 28)
    with no_waiting():
        view = augment(frames, 28)
    assert view.is_cuda and view.shape == (4, 3, 28, 28)


def test_training_with_clips_augmented_on_the_gpu(tmp_path):
    trainer = tiny_training.trainer(tmp_path, use_cpu=False, augment_on_device=True, random_erasing=1.0)
    assert trainer.train().global_step == 2


def test_clips_that_lie_on_the_gpu(tmp_path):
    """All frames and pixels of a clip are what the CPU makes of them, in a training that goes through."""
    from flux_hf.processing.grid_fluxvit import Grid
    from flux_hf.scripts.experiments.headline.device_clips import DeviceClipsTrainer, DeviceViews

    clips, crops = tiny_training.clips(8), {"flip": False, "rand_augment_ops": 0, "max_crop_aspect": 1.0}
    grid = Grid(clips.clips.shape[1], 28)
    asked, made = [ClipRequest(index, 0, grid) for index in (5, 0, 7)], {}
    for on_cpu in (True, False):
        args = tiny_training.arguments(tmp_path, use_cpu=on_cpu, min_crop_area=1.0, **crops)
        made[on_cpu] = DeviceViews(clips, args, [0.4, 0.5, 0.6], [0.2, 0.3, 0.4])(asked)
    assert made[False]["pixel_values_videos"].is_cuda
    check_close(made[False]["pixel_values_videos"], made[True]["pixel_values_videos"])
    assert made[False]["labels"].tolist() == made[True]["labels"].tolist()
    args = tiny_training.arguments(tmp_path, use_cpu=False, **crops)
    options = {"model": tiny_training.model(), "args": args, "processing_class": tiny_training.processor()}
    assert DeviceClipsTrainer(light=0.3, train_dataset=clips, **options).train().global_step == args.max_steps


def test_motion_clips_are_composed_on_the_gpu():
    """Other clips than those of the CPU, as other numbers are drawn, but as bright and as varied ones."""
    from flux_hf.scripts.experiments.motion_clips_endless.clips import compose
    from flux_hf.scripts.experiments.motion_clips_endless.dice import Dice
    from flux_hf.scripts.experiments.motion_clips_endless.layers import make_banks

    def made(device: str) -> tuple[torch.Tensor, torch.Tensor]:
        dice = Dice(device, seed=3)
        return compose(96, make_banks(64, dice), dice, frames=4, side=64)

    (frames, labels), (again, labels_again), (on_cpu, _) = made(DEVICE), made(DEVICE), made("cpu")
    assert frames.is_cuda and frames.shape == (96, 4, 3, 64, 64) and len(labels.unique()) == 9
    torch.testing.assert_close(frames, again, atol=1e-3, rtol=0)
    assert torch.equal(labels, labels_again)
    for figure in (torch.Tensor.mean, torch.Tensor.std, lambda values: values.diff(dim=1).abs().mean()):
        assert abs(figure(frames).item() / figure(on_cpu).item() - 1) < 0.2


def test_pretraining(tmp_path):
    teacher = tiny_pretraining.teacher_folder(tmp_path / "teacher")
    trainer = tiny_pretraining.trainer(tmp_path / "run", teacher, use_cpu=False, bf16=True)
    before = copy.deepcopy(trainer.model.state_dict())
    trainer.train()
    after = trainer.model.state_dict()
    name = "fluxvit.embeddings.patch_embedding.projection.weight"
    assert after[name].isfinite().all() and not torch.equal(after[name].cpu(), before[name].cpu())


def test_a_checkpoint_loads_onto_the_device(tiny_checkpoint):
    model = AutoModelForVideoClassification.from_pretrained(tiny_checkpoint, device_map=DEVICE, dtype=torch.bfloat16)
    processor = AutoVideoProcessor.from_pretrained(tiny_checkpoint)
    inputs = processor(torch.randint(255, (12, 3, 64, 64), dtype=torch.uint8), return_tensors="pt")
    with torch.no_grad():
        logits = model(**inputs.to(DEVICE, torch.bfloat16)).logits
    assert logits.device.type == DEVICE and logits.isfinite().all()
