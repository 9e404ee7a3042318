"""`FluxViTClipModel`: embeddings, losses, towers, budgets, saving."""

import json
import math
from functools import partial

import pytest
import torch
from torch.nn.functional import cosine_similarity, log_softmax, normalize
from transformers import (
    AutoConfig,
    AutoModel,
    BertConfig,
    BertForMaskedLM,
    BertModel,
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    DistilBertConfig,
    ModernBertConfig,
    SiglipConfig,
    SiglipModel,
    SiglipTextConfig,
    SiglipTextModel,
    T5Config,
    T5EncoderModel,
    ViTConfig,
    ViTModel,
)

from flux_hf import (
    FluxVideoProcessor,
    FluxViTClipConfig,
    FluxViTClipModel,
    FluxViTClipProcessor,
    FluxViTConfig,
    FluxViTForPreTraining,
    FluxViTForVideoClassification,
    FluxViTModel,
)
from flux_hf.modeling.contrastive_loss_fluxvit import contrastive_losses
from tests.tiny_clip import BUDGETS, WORDS, tiny_clip, tiny_pairs, tiny_text_config, tiny_tokenizer
from tests.tiny_models import PATCHES_OF_14

VISION = FluxViTConfig(**PATCHES_OF_14, head_token_budgets=BUDGETS)
SMALL = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": len(WORDS)}
TEXT_CONFIGS = {
    "bert": (tiny_text_config(), "mean"),
    "distilbert": (DistilBertConfig(vocab_size=len(WORDS), dim=24, n_layers=1, n_heads=2, hidden_dim=32), "mean"),
    "modernbert": (ModernBertConfig(**SMALL, hidden_size=24, pad_token_id=0), "mean"),
    "clip": (CLIPTextConfig(**SMALL, hidden_size=24, eos_token_id=5, pad_token_id=0), "pooler"),
}


def embeds_of(videos: int, texts: int, width: int = 6, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    return [normalize(torch.randn(rows, width, generator=generator), dim=-1) for rows in (videos, texts)]


def check_same_weights(found: torch.nn.Module, expected: torch.nn.Module) -> None:
    """To the last bit, which forwards of equal models need not be: their rounding depends on the processor."""
    weights = expected.state_dict()
    assert found.state_dict().keys() == weights.keys()
    assert all(value.equal(weights[name]) for name, value in found.state_dict().items())


def test_logits_are_scaled_cosines_of_unit_vectors():
    model, batch = tiny_clip(), tiny_pairs(3)
    batch["pixel_values_videos"] = batch["pixel_values_videos"][:2]
    output = model(**batch, token_budget=24)
    assert output.loss is None
    for embeds in (output.video_embeds, output.text_embeds):
        torch.testing.assert_close(embeds.norm(dim=-1), torch.ones(len(embeds)))
    cosines = cosine_similarity(output.video_embeds[:, None], output.text_embeds[None], dim=-1)
    torch.testing.assert_close(output.logits_per_video, 100 * cosines, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(output.logits_per_text, output.logits_per_video.T)
    video = model.get_video_features(batch["pixel_values_videos"], token_budget=24)
    text = model.get_text_features(batch["input_ids"], batch["attention_mask"])
    torch.testing.assert_close(video.pooler_output, output.video_embeds)
    torch.testing.assert_close(text.pooler_output, output.text_embeds)
    assert video.keep_mask.sum(1).tolist() == [24, 24]
    torch.testing.assert_close(model.compare(video.pooler_output, text.pooler_output), output.logits_per_video)


def test_one_side_alone():
    model, batch = tiny_clip(), tiny_pairs(2)
    videos = model(pixel_values_videos=batch["pixel_values_videos"])
    texts = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
    both = model(**batch)
    assert videos.text_embeds is texts.video_embeds is videos.logits_per_video is texts.logits_per_text is None
    torch.testing.assert_close(videos.video_embeds, both.video_embeds)
    torch.testing.assert_close(texts.text_embeds, both.text_embeds)
    features = model.text_features(batch["input_ids"], batch["attention_mask"])
    torch.testing.assert_close(model(text_features=features).text_embeds, both.text_embeds)


def test_padding_says_nothing():
    for pooling in ("mean", "cls"):
        model, batch = tiny_clip(text_pooling=pooling), tiny_pairs(3)
        whole = model.get_text_features(batch["input_ids"], batch["attention_mask"]).pooler_output
        for row in range(3):
            length = batch["attention_mask"][row].sum()
            alone = model.get_text_features(batch["input_ids"][row : row + 1, :length]).pooler_output
            torch.testing.assert_close(alone[0], whole[row], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("wrong", [{}, {"input_ids": torch.ones(2, 3).long(), "text_features": torch.ones(2, 24)}])
def test_inputs_that_are_missing_or_exclude_each_other(wrong):
    with pytest.raises(ValueError, match="give pixel_values_videos|exclude each other"):
        tiny_clip()(**wrong)


@pytest.mark.parametrize(("length", "message"), [(0, "must have 1 to .* tokens"), (41, "to 40 tokens .*bert, got 41")])
def test_sentences_that_are_too_long_or_empty(length, message):
    with pytest.raises(ValueError, match=message):
        tiny_clip().get_text_features(torch.ones(1, length, dtype=torch.long))


def test_a_loss_needs_pairs():
    model, batch = tiny_clip(), tiny_pairs(3)
    with pytest.raises(ValueError, match="needs videos and texts"):
        model(pixel_values_videos=batch["pixel_values_videos"], return_loss=True)
    with pytest.raises(ValueError, match="got 2 videos and 3 texts"):
        model(**batch | {"pixel_values_videos": batch["pixel_values_videos"][:2]}, return_loss=True)
    with pytest.raises(ValueError, match="labels must be 3 integers"):
        model(**batch, labels=torch.tensor([1, 2]))


def test_softmax_loss_by_hand():
    """Rows 0 and 2 show the same thing and share the probability."""
    videos, texts = embeds_of(4, 4)
    [loss] = contrastive_losses([videos], texts, torch.tensor(3.0), labels=torch.tensor([7, 1, 7, 2]))
    logits, terms = 3 * videos @ texts.T, []
    for scores in (logits, logits.T):
        rows = log_softmax(scores, dim=1)
        terms += [(rows[0, 0] + rows[0, 2]) / 2, rows[1, 1], (rows[2, 0] + rows[2, 2]) / 2, rows[3, 3]]
    assert loss.item() == pytest.approx(-sum(terms).item() / 8, rel=1e-6)


def test_sigmoid_loss_by_hand():
    videos, texts = embeds_of(3, 3)
    [loss] = contrastive_losses([videos], texts, torch.tensor(3.0), torch.tensor(-2.0), labels=torch.tensor([5, 5, 0]))
    expected = 0.0
    for row in range(3):
        for column in range(3):
            logit = 3 * float(videos[row] @ texts[column]) - 2
            same = row == column or {row, column} == {0, 1}
            expected += math.log1p(math.exp(-logit if same else logit)) / 3
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_the_sigmoid_model_starts_as_siglip():
    model = tiny_clip(loss="sigmoid")
    assert model.get_scale().item() == pytest.approx(10) and model.logit_bias.item() == -10
    output = model(**tiny_pairs(2), return_loss=True)
    similarities = output.video_embeds @ output.text_embeds.T
    torch.testing.assert_close(output.logits_per_video, 10 * similarities - 10)
    assert tiny_clip().logit_bias is None


def test_the_loss_of_several_budgets():
    """One contrastive term each, and the distance of the smaller ones' decoded features to the largest one's; patches
    are embedded once."""
    model, batch, labels = tiny_clip(), tiny_pairs(3), torch.tensor([0, 1, 0])
    embedded = []
    model.vision_model.embeddings.register_forward_hook(lambda *_: embedded.append(1))
    output = model(**batch, token_budgets=[*BUDGETS, 10], labels=labels)
    assert embedded == [1]
    assert [mask.sum(1).tolist() for mask in output.keep_mask] == [[48] * 3, [24] * 3, [10] * 3]
    parts = model.loss_parts(output, labels, [*BUDGETS, 10])
    assert list(parts) == ["loss_48", "loss_24", "loss_10", "alignment_24", "alignment_10"]
    assert output.loss.item() == pytest.approx(sum(parts.values()).item())
    for budget, embeds, logits in zip([*BUDGETS, 10], output.video_embeds, output.logits_per_video, strict=True):
        single = model(**batch, token_budget=budget, labels=labels)
        torch.testing.assert_close(embeds, single.video_embeds)
        torch.testing.assert_close(logits, single.logits_per_video)
        assert parts[f"loss_{budget}"].item() == pytest.approx(single.loss.item(), rel=1e-5)
    decoded = model.alignment_decoders[0](output.pooler_output[1])
    target = normalize(output.pooler_output[0], dim=-1)
    torch.testing.assert_close(parts["alignment_24"], torch.nn.functional.smooth_l1_loss(decoded, target))
    weighted = model.loss_parts(output, labels, [*BUDGETS, 10], alignment_weight=2.0)
    assert weighted["alignment_24"].item() == pytest.approx(2 * parts["alignment_24"].item())
    with pytest.raises(ValueError, match="token_budgets excludes"):
        model(**batch, token_budgets=BUDGETS, token_budget=24)


def test_the_largest_budget_learns_nothing_from_the_alignment():
    model = tiny_clip().train()
    output = model(**tiny_pairs(2), token_budgets=BUDGETS)
    model.loss_parts(output, token_budgets=BUDGETS)["alignment_24"].backward()
    assert model.vision_model.poolers[0].output.weight.grad is None
    assert model.vision_model.poolers[1].output.weight.grad.abs().sum() > 0


def test_the_scale_is_clamped_and_comes_back():
    """Where it is above, only a gradient that leads back passes."""
    model = tiny_clip()
    assert model.get_scale().item() == pytest.approx(100)
    with torch.no_grad():
        model.logit_scale.fill_(6.0)
    assert model.get_scale().item() == pytest.approx(100)
    for sign, passed in ((-1, 0.0), (1, 100.0)):
        model.zero_grad()
        (sign * model.get_scale()).sum().backward()
        assert model.logit_scale.grad.item() == pytest.approx(passed)
    with torch.no_grad():
        model.logit_scale.fill_(1.0)
    model.zero_grad()
    (-model.get_scale()).sum().backward()
    assert model.logit_scale.grad.item() == pytest.approx(-math.e)


@pytest.mark.parametrize("freeze", [True, False])
def test_a_frozen_text_tower_stays_as_it_is(freeze, tmp_path):
    """After loading, too: no gradient and no dropout; its projection learns."""
    tiny_clip(freeze_text=freeze).save_pretrained(tmp_path)
    for model in (tiny_clip(freeze_text=freeze), FluxViTClipModel.from_pretrained(tmp_path)):
        model.train()
        assert model.training and model.vision_model.training
        assert model.text_model.training is not freeze
        model(**tiny_pairs(3), return_loss=True).loss.backward()
        learned = {name for name, each in model.named_parameters() if each.grad is not None}
        assert any(name.startswith("text_model.") for name in learned) is not freeze
        assert {"text_projection.weight", "video_projection.weight", "logit_scale"} <= learned


def test_every_parameter_of_the_text_tower_learns():
    """None is left that no loss reaches, which DistributedDataParallel would wait for."""
    model = tiny_clip(freeze_text=False).train()
    model(**tiny_pairs(3), return_loss=True).loss.backward()
    assert all(each.grad is not None for each in model.text_model.parameters())
    pooled = tiny_clip(freeze_text=False, text_pooling="pooler").train()
    pooled(**tiny_pairs(3), return_loss=True).loss.backward()
    assert pooled.text_model.pooler.dense.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("kind", [FluxViTModel, FluxViTForVideoClassification, FluxViTForPreTraining])
@pytest.mark.parametrize("text_kind", [BertModel, BertForMaskedLM])
def test_towers_keep_their_weights(kind, text_kind, tmp_path):
    torch.manual_seed(1)
    video, text = kind(VISION).eval(), text_kind(tiny_text_config()).eval()
    model, batch = FluxViTClipModel.from_towers(video, text, projection_dim=12), tiny_pairs(2)
    pixels = batch.pop("pixel_values_videos")
    with torch.no_grad():
        expected = video.base_model(pixels, token_budget=24)
        found = model.get_video_features(pixels, token_budget=24)
        words = text.base_model(**batch).last_hidden_state
        torch.testing.assert_close(found.last_hidden_state, expected.last_hidden_state)
        torch.testing.assert_close(model.get_text_features(**batch).last_hidden_state, words)
    if kind is FluxViTForVideoClassification:
        assert torch.equal(model.alignment_decoders[0].projection.weight, video.alignment_decoders[0].projection.weight)
    assert all(each.requires_grad for each in (*video.parameters(), *text.parameters()))


def test_towers_from_checkpoints(tmp_path):
    video, text = FluxViTForVideoClassification(VISION), BertModel(tiny_text_config())
    video.save_pretrained(tmp_path / "video")
    text.save_pretrained(tmp_path / "text")
    torch.manual_seed(0)
    made = FluxViTClipModel.from_towers(str(tmp_path / "video"), tmp_path / "text")
    torch.testing.assert_close(
        made.vision_model.embeddings.patch_embedding.projection.weight,
        video.fluxvit.embeddings.patch_embedding.projection.weight,
    )
    torch.testing.assert_close(
        made.text_model.embeddings.word_embeddings.weight, text.embeddings.word_embeddings.weight
    )


def test_towers_that_are_none():
    video = FluxViTModel(VISION)
    with pytest.raises(ValueError, match="vision_config must be that of a fluxvit, got model_type 'bert'"):
        FluxViTClipModel.from_towers(BertModel(tiny_text_config()), BertModel(tiny_text_config()))
    images = ViTModel(ViTConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8))
    with pytest.raises(ValueError, match="ViTModel is no text encoder: it is given pixel_values"):
        FluxViTClipModel.from_towers(video, images)
    with pytest.raises(ValueError, match="must be that of an encoder, t5 has a decoder"):
        FluxViTClipModel.from_towers(video, AutoModel.from_config(T5Config(d_model=8, d_ff=8, num_layers=1)))
    with pytest.raises(ValueError, match="must be that of a text encoder, clip has no hidden_size"):
        FluxViTClipConfig(text_config={"model_type": "clip"})


@pytest.mark.parametrize("name", TEXT_CONFIGS)
def test_text_encoders_of_several_kinds(name, tmp_path):
    text_config, pooling = TEXT_CONFIGS[name]
    torch.manual_seed(0)
    text = AutoModel.from_config(text_config).eval()
    model = FluxViTClipModel.from_towers(FluxViTModel(VISION), text, projection_dim=12)
    assert model.config.text_pooling == pooling
    batch = tiny_pairs(3)
    output = model(**batch, return_loss=True)
    output.loss.backward()
    model.save_pretrained(tmp_path)
    again = AutoModel.from_pretrained(tmp_path)
    assert type(again) is FluxViTClipModel and type(again.text_model) is type(text)
    check_same_weights(again, model)
    torch.testing.assert_close(again(**batch).logits_per_video, output.logits_per_video)


def test_a_clip_text_tower_is_pooled_as_clip_pools():
    text = CLIPTextModel(TEXT_CONFIGS["clip"][0]).eval()
    model = FluxViTClipModel.from_towers(FluxViTModel(VISION), text, projection_dim=12)
    batch = {name: tensor for name, tensor in tiny_pairs(3).items() if name != "pixel_values_videos"}
    torch.testing.assert_close(model.text_features(**batch), text(**batch).pooler_output)


def test_a_clip_text_tower_brings_its_projection():
    text = CLIPTextModelWithProjection(TEXT_CONFIGS["clip"][0]).eval()
    model = FluxViTClipModel.from_towers(FluxViTModel(VISION), text)
    batch = {name: tensor for name, tensor in tiny_pairs(3).items() if name != "pixel_values_videos"}
    expected = normalize(text(**batch).text_embeds, dim=-1)
    torch.testing.assert_close(model.get_text_features(**batch).pooler_output, expected)
    assert FluxViTClipModel.from_towers(FluxViTModel(VISION), text, projection_dim=7).config.projection_dim == 7


def test_the_text_tower_of_another_dual_encoder():
    sizes = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    images = sizes | {"image_size": 8, "patch_size": 4}
    words = TEXT_CONFIGS["clip"][0].to_dict()
    both = CLIPModel(CLIPConfig(text_config=words, vision_config=images, projection_dim=8)).eval()
    model = FluxViTClipModel.from_towers(FluxViTModel(VISION), both)
    batch = {name: tensor for name, tensor in tiny_pairs(3).items() if name != "pixel_values_videos"}
    expected = normalize(both.get_text_features(**batch).pooler_output, dim=-1)
    torch.testing.assert_close(model.get_text_features(**batch).pooler_output, expected)


@pytest.mark.parametrize(
    "text_class",
    [
        # AutoModel has no class for the configuration of the first, and another for that of the second.
        partial(SiglipTextModel, SiglipTextConfig(**SMALL, hidden_size=24, max_position_embeddings=6)),
        partial(T5EncoderModel, T5Config(d_model=24, d_ff=32, num_layers=1, num_heads=2, vocab_size=len(WORDS))),
    ],
    ids=["siglip", "t5"],
)
def test_encoders_that_their_configuration_does_not_tell(text_class, tmp_path):
    text = text_class().eval()
    text.save_pretrained(tmp_path / "text")
    model = FluxViTClipModel.from_towers(FluxViTModel(VISION), tmp_path / "text", projection_dim=12)
    model.save_pretrained(tmp_path)
    batch = {name: tensor for name, tensor in tiny_pairs(3).items() if name != "pixel_values_videos"}
    for each in (model, FluxViTClipModel.from_pretrained(tmp_path)):
        assert type(each.text_model) is type(text)
        found = each.get_text_features(**batch).last_hidden_state
        torch.testing.assert_close(found, text(**batch).last_hidden_state)


def test_siglip_reads_a_sentence_at_the_end_of_all_its_positions():
    """So that what stands beside a sentence in a batch must not change how long it is."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    words = SiglipTextConfig(**SMALL, hidden_size=24, max_position_embeddings=10)
    both = SiglipModel(SiglipConfig(text_config=words, vision_config=sizes | {"image_size": 8, "patch_size": 4})).eval()
    model = FluxViTClipModel.from_towers(FluxViTModel(VISION), both, projection_dim=12)
    assert type(model.text_model) is SiglipTextModel and model.config.fixed_text_length == 10
    sentences = ["a red box", "the green ball moves slowly up"]
    processor = FluxViTClipProcessor(FluxVideoProcessor(), tiny_tokenizer(), max_length=10, fixed_length=True)
    embed = lambda *text: model.get_text_features(**processor(text=list(text), return_tensors="pt")).pooler_output  # noqa: E731
    torch.testing.assert_close(embed(*sentences), torch.cat([embed(each) for each in sentences]))
    expected = tiny_tokenizer()(sentences, padding="max_length", max_length=10, return_tensors="pt")["input_ids"]
    assert torch.equal(processor(text=sentences, padding=True, return_tensors="pt")["input_ids"], expected)
    with pytest.raises(ValueError, match="last of its 10 positions.*got 3: .*max_length=10, fixed_length=True"):
        model.get_text_features(**tiny_tokenizer()("a red box", return_tensors="pt", return_token_type_ids=False))


@pytest.mark.parametrize(
    ("settings", "pooling"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}, "mean"),
        ({"pooling_mode": "cls"}, "cls"),
    ],
)
def test_sentence_transformers_say_how_they_pool(settings, pooling, tmp_path):
    BertModel(tiny_text_config()).save_pretrained(tmp_path)
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 24} | settings))
    video = FluxViTModel(VISION)
    assert FluxViTClipModel.from_towers(video, tmp_path).config.text_pooling == pooling
    assert FluxViTClipModel.from_towers(video, tmp_path, text_pooling="pooler").config.text_pooling == "pooler"
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_max_tokens": True}))
    with pytest.raises(ValueError, match="1_Pooling.*'max_tokens' is not supported, give text_pooling"):
        FluxViTClipModel.from_towers(video, tmp_path)


def test_what_is_saved_comes_back(tmp_path):
    model, batch = tiny_clip(loss="sigmoid"), tiny_pairs(2)
    model.save_pretrained(tmp_path)
    for again in (FluxViTClipModel.from_pretrained(tmp_path), AutoModel.from_pretrained(tmp_path)):
        assert type(again) is FluxViTClipModel
        check_same_weights(again, model)
        torch.testing.assert_close(again(**batch).logits_per_video, model(**batch).logits_per_video)
    config = AutoConfig.from_pretrained(tmp_path)
    assert type(config) is FluxViTClipConfig
    assert type(config.vision_config) is FluxViTConfig and type(config.text_config) is BertConfig
    assert config.to_diff_dict() == model.config.to_diff_dict()


def test_a_checkpoint_answers_at_every_budget_that_it_names(tmp_path):
    """A pooling head that no step trained is saved as a copy of the one that was."""
    model, batch = tiny_clip(), tiny_pairs(3)
    untrained = model.vision_model.poolers[0].output.weight.clone()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(**batch, token_budget=24, return_loss=True).loss.backward()
    optimizer.step()
    model.save_pretrained(tmp_path)
    first, second = FluxViTClipModel.from_pretrained(tmp_path).vision_model.poolers
    assert torch.equal(first.output.weight, second.output.weight)
    assert torch.equal(second.output.weight, model.vision_model.poolers[1].output.weight)
    assert torch.equal(model.vision_model.poolers[0].output.weight, untrained)


def test_other_budgets_in_place():
    """Heads and decoders of the new budgets begin as those that answered there."""
    model, batch = tiny_clip(), tiny_pairs(2)
    before = model(**batch, token_budgets=BUDGETS)
    model.set_token_budgets([48, 36, 24])
    assert model.token_budgets == model.config.vision_config.head_token_budgets == [48, 36, 24]
    after = model(**batch, token_budgets=[48, 36, 24])
    torch.testing.assert_close(after.video_embeds[0], before.video_embeds[0])
    torch.testing.assert_close(after.video_embeds[2], before.video_embeds[1])
    torch.testing.assert_close(after.aligned[1], before.aligned[0])
    assert len(after.aligned) == 2


def test_the_rule_is_the_video_towers():
    model, batch = tiny_clip(), tiny_pairs(2)
    chosen = model(**batch, token_budget=10).keep_mask
    model.token_selection = "uniform"
    assert model.vision_model.token_selection == model.config.vision_config.token_selection == "uniform"
    assert not torch.equal(model(**batch, token_budget=10).keep_mask, chosen)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"loss": "hinge"}, "loss"),
        ({"text_pooling": "max"}, "text_pooling"),
        ({"projection_dim": 0}, "projection_dim must be at least 1, got 0"),
        ({"logit_scale_init": 200.0}, "is more than logit_scale_max"),
        ({"text_config": {"hidden_size": 3}}, "text_config must name its model_type"),
        ({"vision_config": {"model_type": "vit"}}, "vision_config must be that of a fluxvit, got model_type 'vit'"),
        ({"vision_config": {"hidden_size": 7}}, "hidden_size"),
    ],
)
def test_configurations_that_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        FluxViTClipConfig(**wrong)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_attention_of_both_towers(attention, tmp_path):
    model, batch = tiny_clip(), tiny_pairs(2)
    model.save_pretrained(tmp_path)
    other = FluxViTClipModel.from_pretrained(tmp_path, attn_implementation=attention)
    assert other.vision_model.config._attn_implementation == attention
    assert other.text_model.config._attn_implementation == attention
    torch.testing.assert_close(other(**batch).logits_per_video, model(**batch).logits_per_video, atol=1e-3, rtol=1e-4)


def test_half_precision(tmp_path):
    """Embeddings and logits are float32 all the same."""
    model, batch = tiny_clip(), tiny_pairs(3)
    model.save_pretrained(tmp_path)
    half = FluxViTClipModel.from_pretrained(tmp_path, dtype=torch.bfloat16)
    output = half(**batch | {"pixel_values_videos": batch["pixel_values_videos"].bfloat16()}, return_loss=True)
    assert output.logits_per_video.dtype == output.video_embeds.dtype == output.loss.dtype == torch.float32
    torch.testing.assert_close(output.logits_per_video, model(**batch).logits_per_video, atol=3.0, rtol=0)
    with torch.autocast("cpu", torch.bfloat16):
        assert model.train()(**batch, return_loss=True).loss.isfinite()


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable`:FutureWarning")
def test_gradient_checkpointing_changes_no_gradient():
    model, batch = tiny_clip(freeze_text=False).train(), tiny_pairs(2)
    model.text_model.eval()
    model(**batch, return_loss=True).loss.backward()
    expected = {name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None}
    model.zero_grad()
    model.gradient_checkpointing_enable()
    model(**batch, return_loss=True).loss.backward()
    for name, gradient in expected.items():
        torch.testing.assert_close(dict(model.named_parameters())[name].grad, gradient, msg=name)


@pytest.mark.slow
def test_compiles_in_one_graph():
    model, batch = tiny_clip().train(), tiny_pairs(3)
    expected = model(**batch, token_budgets=BUDGETS, return_loss=True).loss
    expected.backward()
    gradient = model.logit_scale.grad.clone()
    model.zero_grad()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    found = compiled(**batch, token_budgets=BUDGETS, return_loss=True).loss
    found.backward()
    assert found.item() == pytest.approx(expected.item(), rel=1e-4)
    torch.testing.assert_close(model.logit_scale.grad, gradient, atol=1e-3, rtol=1e-3)
