"""Transformers' own model tests, run on our models."""

import tempfile
import unittest
from contextlib import contextmanager
from unittest.mock import patch

import pytest
import torch
from transformers import VideoMAEConfig, VideoMAEForVideoClassification, VideoMAEModel
from transformers.modeling_outputs import ModelOutput
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_PRETRAINING_MAPPING_NAMES,
    MODEL_FOR_VIDEO_CLASSIFICATION_MAPPING_NAMES,
    MODEL_MAPPING_NAMES,
)
from transformers.testing_utils import torch_device

from flux_hf import (
    FluxViTClipConfig,
    FluxViTClipModel,
    FluxViTConfig,
    FluxViTForPreTraining,
    FluxViTForVideoClassification,
    FluxViTModel,
)
from flux_hf.modeling.modeling_fluxvit import FluxViTPreTrainedModel
from tests import transformers_suite
from tests.tiny_clip import tiny_text_config

ModelTesterMixin = transformers_suite.load("test_modeling_common").ModelTesterMixin
ConfigTester = transformers_suite.load("test_configuration_common").ConfigTester


@contextmanager
def masks_as_numbers():
    """Models give their `keep_mask` as int64."""

    def numbers(value):
        if isinstance(value, tuple):
            return tuple(map(numbers, value))
        return value.long() if getattr(value, "dtype", None) == torch.bool else value

    def count_instead(module, inputs, outputs):
        if isinstance(outputs, ModelOutput):
            for name in {"keep_mask", "keep_masks"} & outputs.keys():
                outputs[name] = numbers(outputs[name])
        elif isinstance(outputs, tuple) and isinstance(module, FluxViTPreTrainedModel | FluxViTClipModel):
            outputs = numbers(outputs)
        return outputs

    with torch.nn.modules.module.register_module_forward_hook(count_instead):
        yield


class FluxViTModelTester:
    """A tiny configuration with inputs for it; the budget stands in the configuration."""

    batch_size = 3
    num_frames = 4
    image_size = 20
    patch_size = 5
    hidden_size = 32
    num_hidden_layers = 2
    num_attention_heads = 4
    token_budget = 20
    num_labels = 3
    is_training = True

    def __init__(self, parent: unittest.TestCase):
        self.parent = parent
        self.seq_length = self.token_budget + 1

    def get_config(self) -> FluxViTConfig:
        return FluxViTConfig(
            hidden_size=self.hidden_size,
            num_hidden_layers=self.num_hidden_layers,
            num_attention_heads=self.num_attention_heads,
            mlp_ratio=2.0,
            patch_size=self.patch_size,
            position_frames=self.num_frames,
            position_size=self.image_size,
            projection_dim=24,
            pooler_num_attention_heads=4,
            head_token_budgets=[40, 20],
            token_budget=self.token_budget,
            num_labels=self.num_labels,
        )

    def prepare_config_and_inputs_for_common(self) -> tuple[FluxViTConfig, dict[str, torch.Tensor]]:
        generator = torch.Generator().manual_seed(0)
        shape = (self.batch_size, self.num_frames, 3, self.image_size, self.image_size)
        return self.get_config(), {"pixel_values_videos": torch.randn(shape, generator=generator).to(torch_device)}


class TestFluxViTModels(ModelTesterMixin, unittest.TestCase):
    all_model_classes = (FluxViTModel, FluxViTForVideoClassification, FluxViTForPreTraining)
    pipeline_model_mapping = {
        "video-feature-extraction": FluxViTModel,
        "video-classification": FluxViTForVideoClassification,
    }
    # No vocabulary to resize.
    test_resize_embeddings = False
    # One head of several answers so others get no gradient; test_gradient_reaches_the_head_in_use is exact instead.
    test_all_params_have_gradient = False
    # Off by default for files without a copyright year.
    test_can_init_all_missing_weights_before_2023 = True

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        # The mixin reads from these two which models have a loss and what their labels look like.
        for names, model in (
            (MODEL_MAPPING_NAMES, FluxViTModel),
            (MODEL_FOR_VIDEO_CLASSIFICATION_MAPPING_NAMES, FluxViTForVideoClassification),
            (MODEL_FOR_PRETRAINING_MAPPING_NAMES, FluxViTForPreTraining),
        ):
            names_with_ours = patch.dict(names, fluxvit=model.__name__)
            names_with_ours.start()
            cls.addClassCleanup(names_with_ours.stop)

    def setUp(self):
        self.model_tester = FluxViTModelTester(self)
        self.config_tester = ConfigTester(self, config_class=FluxViTConfig, has_text_modality=False, hidden_size=48)

    def skipTest(self, reason):
        """Overridden: what the mixin skips for our models, it has to skip for VideoMAE as well."""
        name = self._testMethodName
        if not skipped(VideoMAESuite, [name]):
            self.fail(f"skipped for FluxViT and not for VideoMAE: {reason}")
        super().skipTest(reason)

    def _prepare_for_class(self, inputs_dict, model_class, return_labels=False):
        """Overridden: what pre-training compares with comes from a teacher, not from labels."""
        if model_class is not FluxViTForPreTraining or not return_labels:
            return super()._prepare_for_class(inputs_dict, model_class, return_labels)
        generator, batch = torch.Generator().manual_seed(1), self.model_tester.batch_size
        shape = (batch, self.model_tester.token_budget, self.model_tester.hidden_size)
        features, pooled = torch.randn(shape, generator=generator), torch.randn(batch, 24, generator=generator)
        targets = {"target_features": [features.to(torch_device)], "target_pooled": pooled.to(torch_device)}
        return inputs_dict | targets

    def test_config(self):
        self.config_tester.run_common_tests()

    def test_model_get_set_embeddings(self):
        """Overridden: the input embedding of a video model embeds patches, it is no `nn.Embedding`."""
        config, _ = self.model_tester.prepare_config_and_inputs_for_common()
        for model_class in self.all_model_classes:
            model = model_class(config)
            self.assertIsInstance(model.get_input_embeddings(), torch.nn.Module)
            self.assertIsNone(model.get_output_embeddings())

    def test_model_outputs_equivalence(self):
        """Overridden: the mixin subtracts outputs from each other, which torch refuses for the bool `keep_mask`."""

        with masks_as_numbers():
            super().test_model_outputs_equivalence()

    def test_can_load_ignoring_mismatched_shapes(self):
        """Overridden: the mixin looks for one classifier as a direct child and skips; there is one per head."""
        config, inputs = self.model_tester.prepare_config_and_inputs_for_common()
        model = FluxViTForVideoClassification(config)
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(folder)
            with self.assertRaises(RuntimeError):
                FluxViTForVideoClassification.from_pretrained(folder, num_labels=42)
            resized, report = FluxViTForVideoClassification.from_pretrained(
                folder, num_labels=42, ignore_mismatched_sizes=True, output_loading_info=True
            )
        self.assertEqual(
            {name for name, *_ in report["mismatched_keys"]},
            {f"classifier.heads.{head}.{kind}" for head in (0, 1) for kind in ("weight", "bias")},
        )
        self.assertEqual(resized.to(torch_device)(**inputs).logits.shape, (self.model_tester.batch_size, 42))
        weights = model.to(torch_device).state_dict()
        for name, weight in resized.state_dict().items():
            if not name.startswith("classifier.heads."):
                self.assertTrue(torch.equal(weight, weights[name]), name)
            self.assertTrue(weight.isfinite().all(), name)

    @pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable`:FutureWarning")
    def test_enable_input_require_grads_with_gradient_checkpointing(self):
        """Overridden: the mixin wants the weight of an `nn.Embedding` and skips; a patch embedding's is one deeper."""
        config, inputs = self.model_tester.prepare_config_and_inputs_for_common()
        for model_class in self.all_model_classes:
            with self.subTest(model_class.__name__):
                model = model_class(config).to(torch_device).train()
                model.gradient_checkpointing_enable()
                model.enable_input_require_grads()
                model(**inputs)[0].sum().backward()
                gradient = model.get_input_embeddings().projection.weight.grad
                self.assertTrue(gradient.isfinite().all())
                self.assertGreater(gradient.abs().sum().item(), 0)

    def test_gradient_reaches_the_head_in_use(self):
        config, inputs = self.model_tester.prepare_config_and_inputs_for_common()
        model = FluxViTForVideoClassification(config).to(torch_device).train()
        for head in (0, 1):
            model.zero_grad(set_to_none=True)
            labels = torch.zeros(self.model_tester.batch_size, dtype=torch.long, device=torch_device)
            model(**inputs, head_index=head, labels=labels).loss.backward()
            without = {name for name, parameter in model.named_parameters() if parameter.grad is None}
            idle = (f"fluxvit.poolers.{1 - head}.", f"classifier.heads.{1 - head}.", "alignment_decoders.")
            self.assertEqual(without, {name for name, _ in model.named_parameters() if name.startswith(idle)})


class FluxViTClipModelTester(FluxViTModelTester):
    """The same videos, each beside a sentence of a tiny BERT, which learns."""

    vocabulary = 20

    def get_config(self) -> FluxViTClipConfig:
        text = tiny_text_config(vocab_size=self.vocabulary, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
        return FluxViTClipConfig(
            vision_config=super().get_config().to_dict(),
            text_config=text.to_dict(),
            projection_dim=16,
            freeze_text=False,
            logit_scale_init=5.0,
        )

    def prepare_config_and_inputs_for_common(self) -> tuple[FluxViTClipConfig, dict[str, torch.Tensor]]:
        config, inputs = super().prepare_config_and_inputs_for_common()
        generator = torch.Generator().manual_seed(1)
        tokens = torch.randint(2, self.vocabulary, (self.batch_size, 7), generator=generator)
        inputs |= {"input_ids": tokens.to(torch_device), "attention_mask": torch.ones_like(tokens).to(torch_device)}
        return config, inputs


@pytest.mark.slow
class TestFluxViTClipModel(ModelTesterMixin, unittest.TestCase):
    all_model_classes = (FluxViTClipModel,)
    additional_model_inputs = ["pixel_values_videos", "input_ids", "attention_mask"]
    # As for CLIPModel: the towers' suites test what they have.
    test_resize_embeddings = False
    test_attention_outputs = False
    has_attentions = False
    # Poolers and decoders of other budgets.
    test_all_params_have_gradient = False
    _is_composite = True

    def setUp(self):
        self.model_tester = FluxViTClipModelTester(self)
        self.config_tester = ConfigTester(
            self,
            config_class=FluxViTClipConfig,
            has_text_modality=False,
            common_properties=["projection_dim", "text_pooling", "freeze_text"],
        )

    def _prepare_for_class(self, inputs_dict, model_class, return_labels=False):
        """Overridden: what belongs together is said by the order, not by labels."""
        inputs = super()._prepare_for_class(inputs_dict, model_class, return_labels=False)
        return inputs | {"return_loss": True} if return_labels else inputs

    def test_config(self):
        self.config_tester.run_common_tests()

    def test_model_outputs_equivalence(self):
        """Overridden as for the models of one tower."""
        with masks_as_numbers():
            super().test_model_outputs_equivalence()

    @unittest.skip("The output has no hidden states; those of the towers are tested with the towers.")
    def test_retain_grad_hidden_states_attentions(self):
        pass

    @unittest.skip("The output has no hidden states; those of the towers are tested with the towers.")
    def test_hidden_states_output(self):
        pass


class VideoMAETester(FluxViTModelTester):
    """The same for VideoMAE, a model of Transformers itself."""

    def get_config(self) -> VideoMAEConfig:
        return VideoMAEConfig(
            hidden_size=self.hidden_size,
            num_hidden_layers=self.num_hidden_layers,
            num_attention_heads=self.num_attention_heads,
            intermediate_size=37,
            decoder_num_hidden_layers=1,
            image_size=self.image_size,
            patch_size=self.patch_size,
            num_frames=self.num_frames,
            num_labels=self.num_labels,
        )

    def prepare_config_and_inputs_for_common(self):
        config, inputs = super().prepare_config_and_inputs_for_common()
        return config, {"pixel_values": inputs["pixel_values_videos"]}


class VideoMAESuite(ModelTesterMixin, unittest.TestCase):
    """Not collected: runs where `TestFluxViTModels` skips."""

    __test__ = False
    all_model_classes = (VideoMAEModel, VideoMAEForVideoClassification)
    test_resize_embeddings = False

    def setUp(self):
        self.model_tester = VideoMAETester(self)


def skipped(test_class: type[unittest.TestCase], names: list[str]) -> set[str]:
    """Those of the named tests that skip, wholly or in a subtest."""
    result = unittest.TestResult()
    unittest.TestSuite(test_class(name) for name in names).run(result)
    return {getattr(test, "test_case", test)._testMethodName for test, _ in result.skipped}
