"""`flux-hf convert`: class names, other ViTs as a start, and what is written."""

import argparse
import json
import math

import pytest
import torch
from transformers import AutoModel, AutoModelForVideoClassification, AutoVideoProcessor

from flux_hf import FluxViTConfig, cli
from flux_hf.conversion import convert_official_state_dict, initialize_from_state_dict, select_classes
from flux_hf.conversion.convert import check_reload
from flux_hf.scripts.convert_checkpoint import main
from tests import official_reference as official

TABLE = (4, 4)
CLASSES = 6
HEADS = ["--num_attention_heads", "2", "--pooler_num_attention_heads", "4"]


@pytest.fixture(scope="module")
def flux_weights():
    return official.flux_weights(width=32, depth=2, table=TABLE, classes=CLASSES, projection=24)


@pytest.fixture(scope="module")
def internvideo_weights():
    weights = official.backbone_weights(width=32, depth=2, table=(4, 16))
    weights |= official.pooling_weights(32, 24, CLASSES, "")
    return weights | {"fc_norm.weight": torch.linspace(0.5, 1.5, 24), "fc_norm.bias": torch.linspace(-1, 1, 24)}


def test_command_writes_a_folder_the_auto_classes_load(flux_weights, tmp_path, capsys):
    torch.save({"module": flux_weights}, tmp_path / "official.pth")
    (tmp_path / "names.txt").write_text("".join(f"walking the dog {index}\n" for index in range(CLASSES)))
    out = tmp_path / "out"
    cli.main(
        ["convert", str(tmp_path / "official.pth"), str(out), "--label_names", str(tmp_path / "names.txt"), *HEADS]
    )
    assert "source taken for: FluxViT" in capsys.readouterr().out

    model = AutoModelForVideoClassification.from_pretrained(out).eval()
    assert model.config.id2label[5] == "walking the dog 5"
    assert model.config.head_token_budgets == [3072, 2048, 1024]
    assert AutoVideoProcessor.from_pretrained(out).patch_size == 14
    assert type(AutoModel.from_pretrained(out)).__name__ == "FluxViTModel"
    assert not list(out.glob("*.bin")) + list(out.glob("*.pth"))
    report = json.loads((out / "conversion.json").read_text())
    assert report["source"]["file"] == "official.pth"
    assert (report["resized"], report["new"], report["unused"]) == ({}, {}, {})
    assert sorted(report["loaded"]) == sorted(model.state_dict())

    video = torch.randn(2, 3, 8, 42, 42, generator=torch.Generator().manual_seed(5))
    for budget in (None, 40, 21):
        logits, keep = official.flux_forward(
            flux_weights, video, table=TABLE, heads=2, budget=budget, pooler_heads=4, act="tanh"
        )
        for head in range(3):
            with torch.no_grad():
                output = model(video.transpose(1, 2), token_budget=budget, head_index=head)
            torch.testing.assert_close(output.logits, logits[head], atol=1e-5, rtol=1e-4)
        assert keep is output.keep_mask is None or torch.equal(output.keep_mask, keep)


def test_reload_check_can_fail(flux_weights, tmp_path, tiny_processor):
    model = convert_official_state_dict(flux_weights, num_attention_heads=2, pooler_num_attention_heads=4)
    model.save_pretrained(tmp_path)
    tiny_processor.save_pretrained(tmp_path)
    check_reload(model, tiny_processor, tmp_path)
    with torch.no_grad():
        model.classifier.heads[1].bias += 0.01
    with pytest.raises(RuntimeError, match=r"head 1 \(2048 tokens\) differs by 0.01"):
        check_reload(model, tiny_processor, tmp_path)
    with torch.no_grad():
        model.classifier.heads[1].bias -= 0.01
    changed = type(tiny_processor)(**{**tiny_processor.to_dict(), "token_budget": 7})
    with pytest.raises(RuntimeError, match="the processor differs in token_budget"):
        check_reload(model, changed, tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--label_names", "five.txt"], "id2label names 5 classes, the classifier has 6; .*source_label_names"),
        (["--label_names", "five.txt", "--label_dataset", "clips"], "exclude each other"),
        (["--label_names", "twice.txt"], r"twice\.txt must be different, these come twice: a"),
        (["--label_names", "gap.txt"], r"gap\.txt must be one name for every class, without empty lines"),
        (["--source_label_names", "five.txt"], "needs label_names or label_dataset"),
        (["--model_config", "five.txt"], "model_config is for files of other ViTs"),
        (["--label_names", "absent.txt"], r"absent\.txt"),
    ],
)
def test_options_that_do_not_fit(flux_weights, tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    torch.save(flux_weights, "official.pth")
    (tmp_path / "five.txt").write_text("a\nb\nc\nd\ne\n")
    (tmp_path / "twice.txt").write_text("a\nb\na\n")
    (tmp_path / "gap.txt").write_text("a\n\nb\n")
    with pytest.raises((ValueError, OSError), match=message):
        main(["official.pth", "out", *HEADS, *options])
    assert not (tmp_path / "out").exists()


def test_class_names_of_a_data_set(flux_weights, make_video, tmp_path):
    names = ["bowing", "clapping", "digging", "eating", "flying", "golfing"]
    for name in names:
        make_video(f"clips/train/{name}/0.mp4", frames=2)
    torch.save(flux_weights, tmp_path / "official.pth")
    main([str(tmp_path / "official.pth"), str(tmp_path / "out"), "--label_dataset", str(tmp_path / "clips"), *HEADS])
    config = FluxViTConfig.from_pretrained(tmp_path / "out")
    assert list(config.id2label.values()) == names


def test_larger_classifiers_are_cut_by_name(flux_weights, tmp_path):
    """A K710 head becomes a K400 head; the official code would drop it without a word."""
    all_names, kept = [f"class {index}" for index in range(CLASSES)], ["class 4", "class 0", "class 2"]
    (tmp_path / "all.txt").write_text("\n".join(all_names))
    (tmp_path / "kept.txt").write_text("\n".join(kept))
    torch.save(flux_weights, tmp_path / "official.pth")
    names = ["--label_names", str(tmp_path / "kept.txt"), "--source_label_names", str(tmp_path / "all.txt")]
    main([str(tmp_path / "official.pth"), str(tmp_path / "out"), *names, *HEADS])
    whole = convert_official_state_dict(flux_weights, num_attention_heads=2, pooler_num_attention_heads=4)
    part = AutoModelForVideoClassification.from_pretrained(tmp_path / "out").eval()
    assert list(part.config.id2label.values()) == kept
    video = torch.randn(1, 4, 3, 42, 42, generator=torch.Generator().manual_seed(1))
    for head in range(3):
        with torch.no_grad():
            expected = whole(video, head_index=head).logits[:, [4, 0, 2]]
            torch.testing.assert_close(part(video, head_index=head).logits, expected)

    with pytest.raises(ValueError, match="1 of 2 labels are none of the source's: class 9"):
        select_classes(flux_weights, all_names, ["class 1", "class 9"])
    with pytest.raises(ValueError, match="head.0.weight has 6 classes, but 5 source labels"):
        select_classes(flux_weights, all_names[:5], ["class 1"])


def test_internvideo2_backbone_computes_what_it_did(internvideo_weights):
    """Behind the patch embedding, where FluxViT has its own norms, a converted InternVideo2 is the same function."""
    model, report = initialize_from_state_dict(
        internvideo_weights, num_attention_heads=2, pooler_num_attention_heads=4, id2label=dict(enumerate("abcdef"))
    )
    assert (report.family, report.unused, report.resized) == ("InternVideo2", {}, {})
    assert (model.config.position_frames, model.config.position_size) == (4, 224)
    assert model.config.hidden_act == "gelu_pytorch_tanh"
    video = torch.randn(1, 3, 4, 224, 224, generator=torch.Generator().manual_seed(2))
    tokens = official.patches(internvideo_weights, video).flatten(1, 2)
    tokens = torch.cat([internvideo_weights["cls_token"], tokens], 1) + internvideo_weights["pos_embed"]
    encoded = official.encode(internvideo_weights, tokens, 2)
    expected = official.classify(internvideo_weights, encoded, "", 4)
    with torch.no_grad():
        ours = model.fluxvit.encoder(tokens)
        torch.testing.assert_close(ours, encoded, atol=1e-4, rtol=1e-4)
        for pooler, classifier in zip(model.fluxvit.poolers, model.classifier.heads, strict=True):
            logits = classifier(model.classifier_norm(pooler(ours)))
            torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)
        cls, positions = model.fluxvit.embeddings.position_embedding(4, 16, 16)
    torch.testing.assert_close(torch.cat([cls[0], positions]), internvideo_weights["pos_embed"][0])
    assert {name for name in report.new if "encoder" in name} == {
        f"fluxvit.encoder.layers.{layer}.attention.local_position.{part}"
        for layer in (0, 1)
        for part in ("weight", "bias")
    }
    accounted = {*report.loaded, *report.new}
    assert accounted == set(model.state_dict()) and not set(report.loaded) & set(report.new)


def test_internvideo2_fitted_to_another_table(internvideo_weights, tmp_path, capsys):
    config = FluxViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, pooler_num_attention_heads=4, projection_dim=24,
        position_frames=6, position_size=252,
    )  # fmt: skip
    config.to_json_file(tmp_path / "config.json")
    torch.save({"model": internvideo_weights}, tmp_path / "internvideo2.pth")
    main([str(tmp_path / "internvideo2.pth"), str(tmp_path / "out"), "--model_config", str(tmp_path / "config.json")])
    assert "position_embedding.table: 4x16x16 to 6x18x18" in capsys.readouterr().out
    model = AutoModelForVideoClassification.from_pretrained(tmp_path / "out").eval()
    weights = internvideo_weights | {"gpe_proj.depthwise_conv.weight": torch.ones(32, 1, 1, 1, 1)}
    weights["gpe_proj.depthwise_conv.bias"] = torch.zeros(32)
    expected = official.flux_positions(weights, (4, 16), 6, 18)
    with torch.no_grad():
        cls, positions = model.fluxvit.embeddings.position_embedding(6, 18, 18)
    torch.testing.assert_close(torch.cat([cls[0], positions]), expected[0], atol=1e-5, rtol=1e-4)

    config.hidden_size, config.num_hidden_layers = 64, 3
    with pytest.raises(ValueError, match="the config's hidden_size is 64, the checkpoint's 32"):
        initialize_from_state_dict(internvideo_weights, config=config)


@pytest.mark.parametrize("prefix", ["", "encoder."])
def test_umt_and_videomae_as_a_start(tmp_path, prefix):
    """Patches of 2 x 16 x 16 and fixed positions; query biases, decoder and classifier stay behind."""
    source = official.backbone_weights(width=32, depth=2, patch=16, tubelet=2, table=None, biases=True)
    content = {prefix + name: tensor for name, tensor in source.items()}
    content |= {"decoder.blocks.0.norm1.weight": torch.ones(8), "head.weight": torch.ones(4, 32)}
    torch.save({"model": content, "args": argparse.Namespace(lr=1.0)}, tmp_path / "videomae.pth")
    out = tmp_path / "out"
    main([str(tmp_path / "videomae.pth"), str(out), *HEADS])
    model = AutoModelForVideoClassification.from_pretrained(out).eval()
    report = json.loads((out / "conversion.json").read_text())
    assert report["family"] == "ViT"
    assert report["resized"] == {
        "fluxvit.embeddings.patch_embedding.projection.weight": "patches 2x16x16 to 1x16x16",
    }
    left = {f"{prefix}blocks.{block}.attn.q_bias" for block in (0, 1)}
    assert set(report["unused"]) == left | {"decoder.blocks.0.norm1.weight", "head.weight"}
    biases = ("attn.v_bias", "norm1.bias", "norm2.bias")
    assert set(report["folded"]) == {f"{prefix}blocks.{block}.{name}" for block in (0, 1) for name in biases}
    assert {*report["loaded"], *report["resized"], *report["new"]} == set(model.state_dict())

    config, layer = model.config, model.fluxvit.encoder.layers[1]
    assert (config.patch_size, config.position_frames, config.position_size, config.hidden_act) == (16, 8, 224, "gelu")
    fused = torch.cat([part.weight for part in (layer.attention.query, layer.attention.key, layer.attention.value)])
    assert torch.equal(fused, source["blocks.1.attn.qkv.weight"])
    assert torch.equal(layer.mlp_scale.weight, torch.ones(32))
    assert torch.equal(layer.attention.local_position.weight, torch.zeros(32))
    still = torch.rand(1, 3, 1, 32, 32).expand(-1, -1, 2, -1, -1)
    embedding = model.fluxvit.embeddings.patch_embedding
    embedding.norm_before = embedding.norm_after = torch.nn.Identity()
    with torch.no_grad():
        ours = embedding(embedding.patchify(still[:, :, :1].transpose(1, 2))).flatten(2, 3)
    torch.testing.assert_close(ours, official.patches(source, still), atol=1e-5, rtol=1e-4)


def umt_weights(width: int = 32, depth: int = 1, **changes) -> dict[str, torch.Tensor]:
    return official.backbone_weights(width=width, depth=depth, patch=16, table=None, biases=True) | changes


@torch.no_grad()
def test_constant_biases_have_the_effect_that_they_had():
    """Behind a norm of tokens with mean zero, for which LayerNorm and RMSNorm are the same, and without attention to
    any token more than another."""
    weights = umt_weights()
    qkv = weights["blocks.0.attn.qkv.weight"]
    qkv[:64] = 0
    model, _ = initialize_from_state_dict(weights, num_attention_heads=2, pooler_num_attention_heads=4)
    block = {name.removeprefix("blocks.0."): tensor for name, tensor in weights.items()}
    tokens = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(0))
    tokens -= tokens.mean(-1, keepdim=True)
    layer = model.fluxvit.encoder.layers[0]
    normed = torch.layer_norm(tokens, (32,), block["norm1.weight"], block["norm1.bias"], 1e-6)
    values = (normed @ qkv[64:].T + block["attn.v_bias"]).mean(1, keepdim=True)
    expected = values @ block["attn.proj.weight"].T + block["attn.proj.bias"]
    torch.testing.assert_close(layer.attention(layer.attention_norm(tokens))[0], expected.expand(-1, 5, -1))
    normed = torch.layer_norm(tokens, (32,), block["norm2.weight"], block["norm2.bias"], 1e-6)
    hidden = torch.nn.functional.gelu(normed @ block["mlp.fc1.weight"].T + block["mlp.fc1.bias"])
    expected = hidden @ block["mlp.fc2.weight"].T + block["mlp.fc2.bias"]
    torch.testing.assert_close(layer.mlp(layer.mlp_norm(tokens)), expected)


@pytest.mark.parametrize(
    ("rows", "grid"), [(3136, (16, 14)), (784, (4, 14)), (196, (1, 14)), (2352, (12, 14)), (4608, (8, 24))]
)
def test_a_learned_table_without_a_cls_row(rows, grid):
    """UMT stores one wherever its clips have not 8 frames of 224 pixels."""
    table = torch.randn(1, rows, 32, generator=torch.Generator().manual_seed(0))
    model, report = initialize_from_state_dict(
        umt_weights(pos_embed=table), num_attention_heads=2, pooler_num_attention_heads=4
    )
    assert (model.config.position_frames, model.config.position_size) == (grid[0], grid[1] * 16)
    position = model.fluxvit.embeddings.position_embedding
    assert position.table.equal(table[0]) and not position.cls.any()
    assert "fluxvit.embeddings.position_embedding.table" in report.loaded and "pos_embed" not in report.unused


@pytest.mark.parametrize(
    ("rows", "extra", "message"),
    [
        (3137, {}, "pos_embed has 3137 rows, and the file has no cls_token: expected are frames x 14 x 14 or frames x"),
        (196, {"cls_token": torch.zeros(1, 1, 32)}, "pos_embed has 196 rows, and the file has a cls_token: expected"),
        (0, {}, "pos_embed has 0 rows"),
    ],
)
def test_tables_that_fit_no_grid_are_refused(rows, extra, message):
    with pytest.raises(ValueError, match=message):
        initialize_from_state_dict(umt_weights(pos_embed=torch.zeros(1, rows, 32), **extra), num_attention_heads=2)


def test_an_internvideo2_table_without_its_cls_row_is_refused(internvideo_weights):
    weights = internvideo_weights | {"pos_embed": torch.zeros(1, 784, 32)}
    with pytest.raises(ValueError, match="pos_embed has 784 rows, and the file has a cls_token"):
        initialize_from_state_dict(weights, num_attention_heads=2)


def test_a_head_that_the_model_does_not_have_is_not_used(internvideo_weights):
    _, report = initialize_from_state_dict(
        internvideo_weights | {"clip_projector.7.norm1_q.weight": torch.ones(4)},
        num_attention_heads=2,
        pooler_num_attention_heads=4,
    )
    assert report.unused == {"clip_projector.7.norm1_q.weight": "no such part in a FluxViT"}


@pytest.mark.parametrize(("patch", "side"), [(16, 14), (14, 16)])
def test_fixed_positions_of_umt_and_videomae_are_computed(patch, side):
    weights = official.backbone_weights(width=32, depth=1, patch=patch, table=None, biases=True)
    model, report = initialize_from_state_dict(weights, num_attention_heads=2, pooler_num_attention_heads=4)
    assert (model.config.position_frames, model.config.position_size) == (8, 224)
    place = 3 * side * side + 5 * side + 2
    expected = [(math.cos if i % 2 else math.sin)(place / 10000 ** (i // 2 * 2 / 32)) for i in range(32)]
    table = model.fluxvit.embeddings.position_embedding.table
    torch.testing.assert_close(table[place], torch.tensor(expected), atol=1e-6, rtol=1e-5)
    assert report.new["fluxvit.embeddings.position_embedding.table"].startswith("sines and cosines of the source")


def test_separate_tables_of_space_and_time_are_summed(internvideo_weights):
    space, time = torch.randn(1, 9, 32), torch.randn(1, 5, 32)
    weights = {key: tensor for key, tensor in internvideo_weights.items() if key != "pos_embed"}
    weights |= {"pos_embed_spatial": space, "pos_embed_temporal": time, "pos_embed_cls": torch.full((1, 1, 32), 0.5)}
    model, report = initialize_from_state_dict(weights, num_attention_heads=2, pooler_num_attention_heads=4)
    position = model.fluxvit.embeddings.position_embedding
    assert (model.config.position_frames, model.config.position_size) == (5, 3 * 14)
    assert position.table.view(5, 9, 32)[3, 7].equal(space[0, 7] + time[0, 3]) and (position.cls == 0.5).all()
    assert not report.unused


def test_vision_encoders_of_multimodal_files(internvideo_weights):
    content = {f"vision_encoder.{key}": tensor for key, tensor in internvideo_weights.items()}
    model, report = initialize_from_state_dict(
        content | {"text_encoder.cls.bias": torch.ones(3), "temp": torch.ones(())},
        num_attention_heads=2,
        pooler_num_attention_heads=4,
    )
    assert set(report.unused) == {"text_encoder.cls.bias", "temp"}
    assert model.classifier.heads[1].weight.equal(internvideo_weights["head.weight"])
    with pytest.raises(ValueError, match="two tensors of the file are norm.weight: encoder.norm.weight, norm.weight"):
        twice = {"encoder.norm.weight": torch.ones(1), "norm.weight": torch.ones(1)}
        initialize_from_state_dict(internvideo_weights | twice)


@pytest.mark.parametrize("features", [24, 64])
def test_classifiers_of_cat_models_stay_behind(internvideo_weights, features):
    """They read cls token and mean as well; a width that happens to be that of our pooled feature is not ours."""
    cat = {"head.weight": torch.ones(CLASSES, features), "head.bias": torch.ones(CLASSES)}
    cat |= {"down_norm.running_mean": torch.ones(2)}
    model, report = initialize_from_state_dict(
        internvideo_weights | cat, num_attention_heads=2, pooler_num_attention_heads=4
    )
    assert set(report.unused) == {"head.weight", "head.bias", "down_norm.running_mean"}
    for classifier in model.classifier.heads:
        assert not classifier.bias.any() and not (classifier.weight == 1).any()


@pytest.mark.parametrize(
    ("family", "asked", "expected"),
    [("internvideo", None, "gelu_pytorch_tanh"), ("internvideo", "gelu", "gelu"), ("umt", None, "gelu")],
)
def test_weights_keep_their_activation_whatever_the_config_says(internvideo_weights, family, asked, expected):
    config = FluxViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, pooler_num_attention_heads=4, projection_dim=24,
        hidden_act="relu",
    )  # fmt: skip
    weights = internvideo_weights if family == "internvideo" else umt_weights(depth=2)
    model, report = initialize_from_state_dict(weights, config=config, hidden_act=asked)
    assert model.config.hidden_act == expected and config.hidden_act == "relu"
    assert report.settings == {"hidden_act": f"{expected} instead of the config's relu"}
    assert f"hidden_act: {expected} instead of the config's relu" in report.text()


def test_patches_of_another_size(tmp_path):
    """A smooth picture gets about the same response from patches of 14 pixels as from 16."""
    source = official.backbone_weights(width=32, depth=1, patch=16, table=None, biases=True)
    smooth = torch.linspace(-1, 1, 16)
    source["patch_embed.proj.weight"] = (smooth[:, None] + 0.5 * smooth[None]).expand(32, 3, 1, 16, 16) / 100
    config = FluxViTConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, pooler_num_attention_heads=4)
    model, report = initialize_from_state_dict(source, config=config)
    assert list(report.resized.values()) == ["patches 1x16x16 to 1x14x14"]
    kernel = model.fluxvit.embeddings.patch_embedding.projection.weight[0].view(14, 14, 3)
    coarse = torch.linspace(-1, 1, 14)[:, None].expand(14, 14)
    fine = smooth[:, None].expand(16, 16)
    before = (source["patch_embed.proj.weight"][0, 0, 0] * fine).sum()
    torch.testing.assert_close((kernel[..., 0] * coarse).sum(), before, atol=0.02, rtol=0.05)


def test_a_file_of_something_else(tmp_path):
    torch.save({"layer.weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"not a state dict of InternVideo2.*patch_embed\.proj\.weight is missing"):
        main([str(tmp_path / "other.pth"), str(tmp_path / "out")])


@pytest.mark.slow
@pytest.mark.parametrize(("width", "heads", "table"), [(384, 6, (24, 18)), (768, 12, (32, 20))], ids=["S", "B"])
def test_full_size(tmp_path, width, heads, table):
    """FluxViT-S and -B at 400 classes: file -> folder -> the official arithmetic, every head, three budgets."""
    weights = official.flux_weights(width=width, depth=12, table=table, classes=400)
    torch.save({"module": {name: tensor.bfloat16() for name, tensor in weights.items()}}, tmp_path / "official.pth")
    weights = {name: tensor.bfloat16().float() for name, tensor in weights.items()}
    main([str(tmp_path / "official.pth"), str(tmp_path / "out")])
    model = AutoModelForVideoClassification.from_pretrained(tmp_path / "out").eval()
    assert (model.config.num_labels, model.config.num_attention_heads, model.dtype) == (400, heads, torch.float32)
    video = torch.randn(1, 3, 8, 224, 224, generator=torch.Generator().manual_seed(3))
    for budget in (2048, 1024, 512):
        logits, keep = official.flux_forward(weights, video, table=table, heads=heads, budget=budget)
        for head in range(3):
            with torch.no_grad():
                output = model(video.transpose(1, 2), token_budget=budget, head_index=head)
            torch.testing.assert_close(output.logits, logits[head], atol=2e-4, rtol=1e-3)
        if budget == 2048:
            assert keep is output.keep_mask is None
        else:
            assert torch.equal(output.keep_mask, keep)
