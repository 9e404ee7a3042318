import copy

import pytest
import torch

from flux_hf import FluxViTConfig, FluxViTForVideoClassification, FluxViTModel
from flux_hf.modeling.token_selection_fluxvit import take_tokens
from tests.tiny_models import values_read

SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "pooler_num_attention_heads": 2,
    "projection_dim": 24,
    "position_frames": 4,
    "position_size": 56,
    "layer_scale_init": 0.5,
    "initializer_range": 0.1,
    "head_token_budgets": [48, 32, 16],
    "num_labels": 5,
}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return FluxViTForVideoClassification(FluxViTConfig(**SIZES)).eval()


def video(batch=2, frames=8, height=42, width=42, seed=0):
    return torch.randn(batch, frames, 3, height, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("batch", "frames", "height", "width"),
    [(1, 1, 14, 14), (1, 1, 56, 56), (2, 3, 42, 28), (1, 5, 14, 70), (3, 7, 28, 28), (1, 64, 28, 42), (2, 4, 56, 56)],
)
@torch.no_grad()
def test_any_grid_gives_the_same_result_in_eager_and_sdpa(model, batch, frames, height, width):
    total = frames * (height // 14) * (width // 14)
    clip = video(batch, frames, height, width)
    for budget in {1, max(1, total // 3), total, total + 10}:
        outputs = []
        for implementation in ("eager", "sdpa"):
            model.set_attn_implementation(implementation)
            outputs.append(model(clip, token_budget=budget, output_hidden_states=True))
        torch.testing.assert_close(outputs[0].logits, outputs[1].logits, atol=1e-5, rtol=1e-5)
        assert outputs[0].hidden_states[-1].shape == (batch, 1 + min(budget, total), 32)
        if budget < total:
            assert outputs[0].keep_mask.sum(1).tolist() == [budget] * batch
        else:
            assert outputs[0].keep_mask is None


@torch.no_grad()
def test_selection_equals_running_the_encoder_on_the_kept_tokens(model):
    """Dropped tokens leave no trace: changing their pixels, at equal selection, changes nothing."""
    clip = video()
    first = model(clip, token_budget=20)
    dropped = ~first.keep_mask.reshape(2, 8, 1, 3, 1, 3, 1).expand(2, 8, 3, 3, 14, 3, 14).reshape(clip.shape)
    changed = torch.where(dropped, video(seed=1), clip)
    torch.testing.assert_close(model(changed, keep_mask=first.keep_mask).logits, first.logits)
    assert not torch.allclose(model(changed).logits, model(clip).logits)


@torch.no_grad()
def test_batch_of_one_equals_a_row_of_a_larger_batch(model):
    clip = video(3)
    whole = model(clip, token_budget=30)
    for row in range(3):
        single = model(clip[row : row + 1], token_budget=30)
        torch.testing.assert_close(single.logits, whole.logits[row : row + 1], atol=1e-5, rtol=1e-5)
        assert torch.equal(single.keep_mask[0], whole.keep_mask[row])


@pytest.mark.parametrize(
    ("kept", "head"), [(72, 0), (48, 0), (40, 0), (39, 1), (32, 1), (24, 1), (23, 2), (16, 2), (1, 2)]
)
@torch.no_grad()
def test_the_head_follows_the_tokens_kept_and_ties_take_the_larger_budget(model, kept, head):
    clip = video()
    by_default = model(clip, token_budget=kept).logits
    torch.testing.assert_close(by_default, model(clip, token_budget=kept, head_index=head).logits)
    assert not torch.allclose(by_default, model(clip, token_budget=kept, head_index=(head + 1) % 3).logits)


@torch.no_grad()
def test_the_budget_may_be_a_tensor_or_come_from_the_config(model):
    clip = video()
    expected = model(clip, token_budget=20).logits
    torch.testing.assert_close(model(clip, token_budget=torch.tensor([20, 20])).logits, expected)
    torch.testing.assert_close(model(clip, token_budget=torch.tensor(20)).logits, expected)
    other = copy.deepcopy(model)
    other.config.token_budget = 20
    torch.testing.assert_close(other(clip).logits, expected)
    assert other(clip, token_budget=1000).keep_mask is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"token_budget": 0}, "token_budget must be at least 1, got 0"),
        ({"token_budget": torch.tensor([3, 4])}, r"token_budget must have equal entries, got \[3, 4\]"),
        ({"token_budget": torch.tensor(2.0)}, "token_budget must be an integer"),
        ({"head_index": 3}, r"head_index must be in 0\.\.2"),
        ({"keep_mask": torch.ones(2, 72)}, "keep_mask must be a bool tensor"),
        ({"keep_mask": torch.ones(2, 71).bool()}, r"keep_mask must be a bool tensor of shape \(2, 72\)"),
        ({"keep_mask": torch.arange(144).reshape(2, 72) > 30}, "same number of tokens"),
        ({"keep_mask": torch.zeros(2, 72).bool()}, "at least one"),
        ({"pixel_values_videos": torch.zeros(2, 8, 3, 40, 42)}, "multiples of the patch size 14, got 40 x 42"),
        ({"pixel_values_videos": torch.zeros(2, 8, 1, 42, 42)}, r"\(batch, frames, 3, height, width\)"),
        ({"pixel_values_videos": torch.zeros(8, 3, 42, 42)}, r"\(batch, frames, 3, height, width\)"),
    ],
)
def test_bad_input_is_refused_by_name(model, arguments, message):
    with pytest.raises(ValueError, match=message):
        model(**({"pixel_values_videos": video()} | arguments))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_attention_heads": 5}, r"hidden_size \(32\) is not a multiple of num_attention_heads \(5\)"),
        ({"pooler_num_attention_heads": 7}, "pooler_num_attention_heads"),
        ({"patch_size": 0}, "patch_size must be at least 1, got 0"),
        ({"position_size": 50}, r"position_size \(50\) is not a multiple of patch_size \(14\)"),
        ({"head_token_budgets": [16, 32]}, "descending"),
        ({"head_token_budgets": []}, "head_token_budgets"),
        ({"token_budget": 0}, "token_budget"),
        ({"drop_path_rate": 1.0}, "drop_path_rate"),
    ],
)
def test_a_config_that_cannot_work_is_refused(change, message):
    with pytest.raises(Exception, match=message):
        FluxViTConfig(**(SIZES | change))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_half_precision_is_near_single_precision(model, dtype):
    clip = video()
    keep_mask = model(clip, token_budget=30).keep_mask
    expected = model(clip, keep_mask=keep_mask).logits
    half = copy.deepcopy(model).to(dtype)(clip.to(dtype), keep_mask=keep_mask).logits
    assert half.dtype == dtype
    torch.testing.assert_close(half.float(), expected, atol=0.05, rtol=0.05)


@torch.no_grad()
def test_hidden_states_and_attentions(model):
    model.set_attn_implementation("eager")
    output = model(video(), token_budget=20, output_hidden_states=True, output_attentions=True)
    assert [tuple(h.shape) for h in output.hidden_states] == [(2, 21, 32)] * 4
    assert [tuple(a.shape) for a in output.attentions] == [(2, 4, 21, 21)] * 3
    for attention in output.attentions:
        torch.testing.assert_close(attention.sum(-1), torch.ones(2, 4, 21))
    tokens = model.fluxvit(video(), token_budget=20).last_hidden_state
    torch.testing.assert_close(output.hidden_states[-1], tokens)


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable`:FutureWarning")
@pytest.mark.parametrize("budget", [20, None])
def test_gradients_equal_with_and_without_checkpointing(budget):
    torch.manual_seed(0)
    model = FluxViTForVideoClassification(FluxViTConfig(**SIZES)).train()
    gradients = []
    for checkpointing in (False, True):
        if checkpointing:
            model.gradient_checkpointing_enable()
        model.zero_grad()
        model(video(), token_budget=budget, labels=torch.tensor([1, 2])).loss.backward()
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], msg=name)


def test_selecting_in_training_gives_the_gradients_of_masking_after_the_embedding():
    """Kept patches are embedded a second time for the backward pass; the gradient is that of embedding all at once."""
    torch.manual_seed(0)
    model = FluxViTModel(FluxViTConfig(**SIZES))
    clip = video()
    model(clip, token_budget=20).pooler_output.sum().backward()
    gradient = model.embeddings.patch_embedding.projection.weight.grad.clone()

    model.zero_grad()
    embeddings = model.embeddings
    keep = model(clip, token_budget=20).keep_mask
    patches = embeddings.patch_embedding.patchify(clip)
    tokens = embeddings.patch_embedding(patches).flatten(1, 3) + embeddings.position_embedding(8, 3, 3)[1]
    cls = (embeddings.cls_token + embeddings.position_embedding.cls).expand(2, -1, -1)
    kept = torch.stack([row[mask] for row, mask in zip(tokens, keep, strict=True)])
    model.poolers[2](model.encoder(torch.cat([cls, kept], 1))).sum().backward()
    torch.testing.assert_close(model.embeddings.patch_embedding.projection.weight.grad, gradient)


@pytest.mark.parametrize(
    ("problem", "num_labels", "labels", "loss"),
    [
        ("single_label_classification", 5, torch.tensor([1, 4]), torch.nn.functional.cross_entropy),
        (
            "multi_label_classification",
            5,
            torch.tensor([[1.0, 0, 0, 1, 0], [0, 0, 1, 0, 0]]),
            torch.nn.functional.binary_cross_entropy_with_logits,
        ),
        ("regression", 5, torch.rand(2, 5), torch.nn.functional.mse_loss),
        ("regression", 1, torch.rand(2, 1), torch.nn.functional.mse_loss),
    ],
)
def test_losses(problem, num_labels, labels, loss):
    config = FluxViTConfig(**(SIZES | {"num_labels": num_labels, "problem_type": problem}))
    output = FluxViTForVideoClassification(config)(video(), labels=labels)
    torch.testing.assert_close(output.loss, loss(output.logits, labels))
    output.loss.backward()


def test_another_number_of_labels_needs_and_gets_new_classifiers(model, tmp_path):
    model.save_pretrained(tmp_path)
    with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"):
        FluxViTForVideoClassification.from_pretrained(tmp_path, num_labels=9)
    other = FluxViTForVideoClassification.from_pretrained(tmp_path, num_labels=9, ignore_mismatched_sizes=True)
    assert [head.out_features for head in other.classifier.heads] == [9, 9, 9]
    assert torch.equal(other.fluxvit.embeddings.cls_token, model.fluxvit.embeddings.cls_token)


def test_drop_path_drops_whole_branches_in_training_only():
    torch.manual_seed(0)
    model = FluxViTModel(FluxViTConfig(**(SIZES | {"drop_path_rate": 0.9})))
    assert [layer.drop_path_rate for layer in model.encoder.layers] == pytest.approx([0.0, 0.45, 0.9])
    clip = video(1)
    with torch.no_grad():
        assert torch.equal(model.eval()(clip).pooler_output, model(clip).pooler_output)
        seen = {round(model.train()(clip).last_hidden_state.sum().item(), 3) for _ in range(20)}
    assert len(seen) > 2


def test_initial_weights():
    torch.manual_seed(0)
    model = FluxViTForVideoClassification(FluxViTConfig(hidden_size=128, num_attention_heads=2, num_hidden_layers=4))
    layers = model.fluxvit.encoder.layers
    for index, layer in enumerate(layers):
        expected = 0.02 / (2 * (index + 1)) ** 0.5
        assert layer.attention.output.weight.std().item() == pytest.approx(expected, rel=0.1)
        assert layer.mlp.down.weight.std().item() == pytest.approx(expected, rel=0.1)
        for part in (layer.attention.query, layer.attention.key, layer.attention.value):
            assert part.weight.std().item() == pytest.approx(0.02, rel=0.1)
        assert (layer.attention_scale.weight == 1e-5).all()
        assert (layer.attention.local_position.weight == 1).all()
    assert model.classifier.heads[0].bias.abs().sum() == 0


@pytest.mark.slow
@pytest.mark.parametrize("budget", [20, None])
def test_compiles_into_one_graph(model, budget):
    model.set_attn_implementation("sdpa")
    clip = video()
    compiled = torch.compile(model, fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(
            compiled(clip, token_budget=budget).logits, model(clip, token_budget=budget).logits, atol=1e-4, rtol=1e-4
        )


@pytest.mark.parametrize("gradients", [False, True])
def test_every_norm_is_fused_under_autocast(gradients, recwarn):
    """Mixed types have no fused kernel, of which PyTorch warns; the choice of tokens stays that of float32 norms."""
    torch.manual_seed(0)
    model = FluxViTModel(FluxViTConfig(**SIZES)).eval()
    clip = video(2, 4, 56, 56)
    norms = []
    for module in model.modules():
        if isinstance(module, torch.nn.RMSNorm):
            module.register_forward_hook(lambda module, args, output: norms.append((args[0].dtype, output.dtype)))
    with torch.set_grad_enabled(gradients), torch.autocast("cpu", torch.bfloat16):
        embedded = model.embeddings.patch_embedding(model.embeddings.patch_embedding.patchify(clip))
        model(clip, token_budget=20)
    assert embedded.dtype == torch.float32
    assert norms and all(taken == given for taken, given in norms)
    assert not [str(w.message) for w in recwarn if "fused" in str(w.message)]


@pytest.mark.parametrize("frames", [1, 4, 6, 8])
def test_a_step_at_an_integer_budget_reads_no_value(frames):
    """On a GPU it would wait for one, and for every list of numbers that is copied there."""
    model = FluxViTForVideoClassification(FluxViTConfig(**SIZES, drop_path_rate=0.2)).train()
    clip, labels = video(frames=frames), torch.tensor([1, 4])
    with values_read() as found:
        model(clip, token_budget=5, labels=labels).loss.backward()
        with torch.no_grad():
            model(clip, token_budget=5)
            model(clip, token_budgets=[8, 5])
    assert found == []
    with values_read() as found:
        model(clip, token_budget=torch.tensor([5, 5]))
    assert found


def test_rows_are_taken_as_gather_takes_them():
    tokens, positions = torch.randn(3, 7, 5, requires_grad=True), torch.tensor([[0, 2, 6], [1, 1, 3], [4, 5, 6]])
    taken = take_tokens(tokens, positions)
    expected = tokens.gather(1, positions[..., None].expand(-1, -1, 5))
    assert torch.equal(taken, expected)
    (ours,) = torch.autograd.grad(taken.square().sum(), tokens)
    (theirs,) = torch.autograd.grad(expected.square().sum(), tokens)
    assert torch.equal(ours, theirs)
