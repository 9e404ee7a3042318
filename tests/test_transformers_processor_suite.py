"""Transformers' own video processor tests, run on our processor."""

import unittest

from transformers import VJEPA2VideoProcessor

from flux_hf import FluxVideoProcessor
from tests import transformers_suite

suite = transformers_suite.load("test_video_processing_common")


class FluxVideoProcessorTester:
    """Random clips of a few frames, and the shape they must come out with."""

    batch_size = 3
    num_frames = 4
    num_channels = 3
    crop_size = 18

    def prepare_video_inputs(self, equal_resolution=False, return_tensors="pil"):
        return suite.prepare_video_inputs(
            batch_size=self.batch_size,
            num_frames=self.num_frames,
            num_channels=self.num_channels,
            min_resolution=30,
            max_resolution=80,
            equal_resolution=equal_resolution,
            return_tensors=return_tensors,
        )

    def expected_output_video_shape(self, videos) -> list[int]:
        return [self.num_frames, self.num_channels, self.crop_size, self.crop_size]


class TestFluxVideoProcessor(suite.VideoProcessingTestMixin, unittest.TestCase):
    fast_video_processing_class = FluxVideoProcessor
    # The mixin tests casting only where this is set.
    test_cast_dtype = True

    def setUp(self):
        super().setUp()
        self.video_processor_tester = FluxVideoProcessorTester()

    @property
    def video_processor_dict(self) -> dict:
        return {
            "size": {"shortest_edge": 20},
            "crop_size": {"height": 18, "width": 18},
            "do_sample_frames": False,
            "image_mean": [0.5, 0.5, 0.5],
            "image_std": [0.5, 0.5, 0.5],
        }


def skipped(test_class: type[unittest.TestCase]) -> dict[str, str]:
    """Name -> reason of the tests that skip."""
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(test_class).run(result)
    return {test._testMethodName: reason for test, reason in result.skipped}


def test_skips_are_those_of_vjepa2():
    """What the mixin skips for our processor, it skips for that of V-JEPA 2 as well."""

    class VJEPA2Suite(TestFluxVideoProcessor):
        fast_video_processing_class = VJEPA2VideoProcessor

    ours = skipped(TestFluxVideoProcessor)
    assert ours
    assert {name: reason for name, reason in ours.items() if name not in skipped(VJEPA2Suite)} == {}
