"""FluxVideoProcessor: what comes out for every kind of input and option."""

import io
import json

import numpy as np
import pytest
import torch
from huggingface_hub.errors import StrictDataclassFieldValidationError
from PIL import Image
from transformers import AutoVideoProcessor

from flux_hf.processing.frame_sampling_fluxvit import segment_middles
from flux_hf.processing.video_batch_fluxvit import array_metadata
from flux_hf.processing.video_processing_fluxvit import FluxVideoProcessor
from flux_hf.processing.video_source_fluxvit import VideoDecodeError
from tests.video_files import encode_video, number_picture, read_numbers

MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
STD = torch.tensor([0.229, 0.224, 0.225])[:, None, None]


@pytest.fixture(scope="module")
def mp4() -> bytes:
    return encode_video(60, height=90, width=120)


def pictures(count: int, height: int = 90, width: int = 120) -> np.ndarray:
    return np.stack([number_picture(number, height, width) for number in range(count)])


def shown(clip: torch.Tensor) -> list[int]:
    """The numbers that normalised frames (frames, 3, n, n) of 120 x 120 pictures show."""
    frames = ((clip * STD + MEAN) * 255).round().to(torch.uint8)
    return read_numbers(frames.permute(0, 2, 3, 1).numpy())


def test_defaults(mp4):
    batch = FluxVideoProcessor()(mp4, token_budget=512, return_tensors="pt")
    assert set(batch) == {"pixel_values_videos", "token_budget"}
    assert batch["pixel_values_videos"].shape == (1, 8, 3, 224, 224)
    assert batch["pixel_values_videos"].dtype == torch.float32
    assert type(batch["token_budget"]) is int and batch["token_budget"] == 512
    moved = batch.to(torch.bfloat16)
    assert moved["pixel_values_videos"].dtype == torch.bfloat16 and type(moved["token_budget"]) is int


def test_without_a_budget_none_is_handed_on(mp4):
    batch = FluxVideoProcessor()(mp4, return_tensors="pt")
    assert set(batch) == {"pixel_values_videos"} and batch["pixel_values_videos"].shape == (1, 8, 3, 224, 224)


def test_the_way_the_stock_pipeline_calls(mp4):
    processor = FluxVideoProcessor(token_budget=100, grids={100: (4, 56)})
    batch = processor(mp4, num_frames=None, do_sample_frames=True, return_tensors="pt")
    assert batch["pixel_values_videos"].shape == (1, 4, 3, 56, 56) and batch["token_budget"] == 100
    assert processor(mp4, num_frames=6, do_sample_frames=True)["pixel_values_videos"][0].shape[0] == 6


def test_right_frames_and_values():
    """Square video, no resizing: the pixels are those of the file, rescaled and normalised."""
    data = encode_video(60, "matroska", "ffv1", "bgra", height=56, width=56)
    processor = FluxVideoProcessor(num_frames=8, size=56, decoding="exact")
    clip = processor(data, return_tensors="pt")["pixel_values_videos"][0]
    expected = torch.from_numpy(pictures(60, 56, 56)[segment_middles(60, 8)]).permute(0, 3, 1, 2)
    torch.testing.assert_close(clip, (expected / 255 - MEAN) / STD, atol=1e-5, rtol=0)
    assert shown(clip) == segment_middles(60, 8).tolist()


@pytest.mark.parametrize("height, width", [(120, 120), (60, 200), (200, 60), (61, 119), (33, 500)])
def test_short_side_resized_and_middle_cut_out(height, width):
    """The picture is drawn into the middle square; what lies beside it must be gone."""
    side = min(height, width)
    video = np.zeros((4, height, width, 3), np.uint8)
    top, left = (height - side) // 2, (width - side) // 2
    video[:, top : top + side, left : left + side] = pictures(4, side, side)
    clip = FluxVideoProcessor(size=112, num_frames=4)(video, return_tensors="pt")["pixel_values_videos"][0]
    assert clip.shape == (4, 3, 112, 112) and shown(clip) == [0, 1, 2, 3]


def test_every_kind_of_input_gives_the_same(tmp_path):
    data = encode_video(20, "matroska", "ffv1", "bgra", height=70, width=80)
    path = tmp_path / "clip.mkv"
    path.write_bytes(data)
    array = pictures(20, 70, 80)
    tensor = torch.from_numpy(array)
    images = [Image.fromarray(frame) for frame in array]
    processor = FluxVideoProcessor(token_budget=20, grids={20: (6, 56)}, decoding="exact")
    kinds = [
        str(path), path, data, bytearray(data), io.BytesIO(data), {"path": str(path), "bytes": None},
        {"path": None, "bytes": data}, array, array.transpose(0, 3, 1, 2), array[:, :, ::-1][:, :, ::-1], tensor,
        tensor.permute(0, 3, 1, 2), images, tuple(images), list(array), list(tensor), list(tensor.permute(0, 3, 1, 2)),
    ]  # fmt: skip
    expected = processor(array, return_tensors="pt")["pixel_values_videos"]
    assert expected.shape == (1, 6, 3, 56, 56)
    for kind in kinds:
        assert torch.equal(processor(kind, return_tensors="pt")["pixel_values_videos"], expected)
        assert torch.equal(processor([kind], return_tensors="pt")["pixel_values_videos"], expected)
        assert torch.equal(processor([[kind]], return_tensors="pt")["pixel_values_videos"], expected)
    with open(path, "rb") as file:
        assert torch.equal(processor(file, return_tensors="pt")["pixel_values_videos"], expected)
    batch = processor(kinds, return_tensors="pt")["pixel_values_videos"]
    assert torch.equal(batch, expected.expand(len(kinds), -1, -1, -1, -1))
    for five in (np.stack([array, array]), torch.stack([tensor, tensor])):
        assert torch.equal(
            processor(five, return_tensors="pt")["pixel_values_videos"], expected.expand(2, -1, -1, -1, -1)
        )
    assert not array.flags.owndata or array.flags.writeable  # inputs are left alone
    assert np.array_equal(array, pictures(20, 70, 80))


def test_mixed_batch_comes_out_on_one_grid(mp4):
    videos = [
        mp4,
        encode_video(1, width=160),
        encode_video(5, "webm", "libvpx-vp9", options={"cpu-used": "8", "deadline": "realtime"}),
        np.zeros((3, 30, 200, 3), np.uint8),
        torch.zeros(40, 3, 64, 48, dtype=torch.uint8),
        [Image.new("RGB", (50, 40))] * 2,
    ]
    processor = FluxVideoProcessor(token_budget=64)
    batch = processor(videos, return_tensors="pt")["pixel_values_videos"]
    assert batch.shape == (6, *[processor.choose_grid()[0]], 3, *[processor.choose_grid()[1]] * 2)
    alone = torch.cat([processor(video, return_tensors="pt")["pixel_values_videos"] for video in videos])
    torch.testing.assert_close(batch, alone)


def test_images_with_other_modes_and_single_images():
    processor = FluxVideoProcessor(size=56, num_frames=2)
    grey = Image.fromarray(number_picture(77, 56, 56)[:, :, 0])
    for image in (grey, grey.convert("RGB"), grey.convert("P"), grey.convert("RGBA"), grey.convert("LA")):
        for video in ([image, image], image):
            clip = processor(video, return_tensors="pt")["pixel_values_videos"][0]
            assert clip.shape == (2, 3, 56, 56) and shown(clip) == [77, 77]
    one_channel = torch.from_numpy(pictures(2, 56, 56)[..., :1])
    assert shown(processor(one_channel, return_tensors="pt")["pixel_values_videos"][0]) == [0, 1]


@pytest.mark.parametrize("count", [1, 3, 5, 8])
def test_short_clip_repeats_frames_evenly(count):
    for video in (pictures(count, 120, 120), encode_video(count, height=120, width=120)):
        batch = FluxVideoProcessor()(video, token_budget=512, size=112, return_tensors="pt")
        assert shown(batch["pixel_values_videos"][0]) == [i * count // 8 for i in range(8)]
        batch = FluxVideoProcessor(num_frames=8, size=112)(video, return_tensors="pt")
        assert shown(batch["pixel_values_videos"][0]) == [i * count // 8 for i in range(8)]


def test_more_frames_asked_for_in_a_call_than_there_are():
    for video in (pictures(5), encode_video(5)):
        with pytest.raises(ValueError, match="num_frames=6 is more than the 5 frames"):
            FluxVideoProcessor()(video, num_frames=6)


def test_all_frames(mp4):
    processor = FluxVideoProcessor(size=112, do_sample_frames=False)
    clip = processor(mp4, return_tensors="pt", num_frames=3)["pixel_values_videos"][0]
    assert shown(clip) == list(range(60))
    assert processor(pictures(5), return_tensors="pt")["pixel_values_videos"].shape[1] == 5


def test_frames_per_second(mp4):
    processor = FluxVideoProcessor(size=112)
    exact = {"decoding": "exact", "return_tensors": "pt"}
    clip = processor(mp4, fps=5, **exact)["pixel_values_videos"][0]  # 60 frames at 25 a second
    assert shown(clip) == segment_middles(60, 12).tolist()
    fixed = FluxVideoProcessor(size=112, num_frames=4)
    assert fixed(mp4, fps=5)["pixel_values_videos"][0].shape[0] == 12
    assert FluxVideoProcessor(size=112, fps=5)(mp4, num_frames=4)["pixel_values_videos"][0].shape[0] == 4
    known = {"total_num_frames": 8, "fps": 4}
    assert processor(pictures(8), fps=3, video_metadata=known)["pixel_values_videos"][0].shape[0] == 6
    with pytest.raises(ValueError, match="fps=5 needs the frame rate"):
        processor(pictures(8), fps=5)
    with pytest.raises(ValueError, match="num_frames=4 and fps=5 exclude each other"):
        processor(mp4, fps=5, num_frames=4)


def test_metadata_comes_back(mp4):
    processor = FluxVideoProcessor(token_budget=64, decoding="exact")
    batch = processor([mp4, pictures(30)], return_metadata=True, return_tensors="pt")
    file, array = batch["video_metadata"]
    assert (file.total_num_frames, file.fps, file.height, file.width) == (60, 25.0, 90, 120)
    assert (array.total_num_frames, array.height, array.width) == (30, 90, 120)
    assert file.frames_indices == segment_middles(60, 4).tolist()
    assert list(array.frames_indices) == segment_middles(30, 4).tolist()


def test_explicit_frames_and_size_win_over_the_grid(mp4):
    processor = FluxVideoProcessor(token_budget=512, grids={512: (8, 112)}, num_frames=4, size={"shortest_edge": 56})
    assert processor.choose_grid() == (4, 56) and processor.choose_grid(64) == (4, 56)

    def shape(**options):
        return tuple(processor(mp4, return_tensors="pt", **options)["pixel_values_videos"].shape)

    assert shape() == (1, 4, 3, 56, 56)
    assert shape(token_budget=64) == (1, 4, 3, 56, 56)
    assert shape(num_frames=10) == (1, 10, 3, 56, 56)
    assert shape(size=84) == (1, 4, 3, 84, 84)
    assert shape(size={"shortest_edge": 98}, crop_size=70) == (1, 4, 3, 70, 70)
    assert shape(size={"height": 42, "width": 84}) == (1, 4, 3, 42, 84)
    processor = FluxVideoProcessor(num_frames=4, size=98, crop_size=70)
    assert shape() == (1, 4, 3, 70, 70)
    assert shape(size=84) == shape(size={"shortest_edge": 84}) == (1, 4, 3, 84, 84)
    assert shape(size={"height": 42, "width": 84}) == (1, 4, 3, 42, 84)
    assert shape(crop_size=56) == (1, 4, 3, 56, 56)
    processor = FluxVideoProcessor(token_budget=512, grids={512: (8, 112), 64: (4, 56)})
    assert shape() == (1, 8, 3, 112, 112)
    assert shape(token_budget=64) == (1, 4, 3, 56, 56)
    assert shape(num_frames=2) == (1, 2, 3, 112, 112)
    assert shape(grids={512: (6, 70)}) == (1, 6, 3, 70, 70)
    assert shape(grids={512: (6, 80)}, patch_size=16) == (1, 6, 3, 80, 80)
    assert shape() == (1, 8, 3, 112, 112)  # a call leaves the processor as it was
    processor.token_budget = 64
    assert shape() == (1, 4, 3, 56, 56)


def test_whole_tubelets(mp4, tmp_path):
    FluxVideoProcessor(patch_size=16, tubelet_size=2, token_budget=512).save_pretrained(tmp_path)
    processor = FluxVideoProcessor.from_pretrained(tmp_path)

    def frames(video, **options):
        return processor(video, **options, return_tensors="pt")["pixel_values_videos"].shape[1]

    assert processor.choose_grid() == (16, 256) and frames(mp4) == 16
    assert frames(mp4, tubelet_size=3) == 24
    assert frames(mp4, grids={512: (6, 64)}) == 6
    assert frames(mp4, fps=3) == 6  # 2.4 seconds
    assert frames(mp4, fps=0.5) == 2
    assert frames(pictures(5)) == 16
    assert frames(pictures(5), fit_source=True) == 4
    assert frames(pictures(1), fit_source=True) == 2
    assert frames(pictures(6), do_sample_frames=False) == 6
    for options in ({"num_frames": 5}, {"do_sample_frames": False}, {"grids": {512: (5, 64)}}):
        with pytest.raises(ValueError, match="must be a multiple of tubelet_size=2, got 5"):
            processor(pictures(5), **options)
    with pytest.raises(ValueError, match="num_frames must be a multiple of tubelet_size=2, got 5"):
        processor.sample_frames(array_metadata(pictures(9)), num_frames=5)


def test_steps_can_be_switched_off():
    video = pictures(4, 56, 84)
    plain = FluxVideoProcessor(do_resize=False, do_center_crop=False, do_rescale=False, do_normalize=False)
    clip = plain(video, num_frames=4, return_tensors="pt")["pixel_values_videos"][0]
    assert torch.equal(clip.float(), torch.from_numpy(video).permute(0, 3, 1, 2).float())
    with pytest.raises(ValueError, match="different shapes and cannot be stacked"):
        plain([video, pictures(4, 56, 56)], num_frames=4, return_tensors="pt")
    clips = plain([video, pictures(4, 56, 56)], num_frames=4)["pixel_values_videos"]
    assert [tuple(clip.shape) for clip in clips] == [(4, 3, 56, 84), (4, 3, 56, 56)]


def test_round_trip(tmp_path, mp4):
    processor = FluxVideoProcessor(
        token_budget=100, grids={"100": [4, 56], 400: (8, 84)}, image_mean=[0.5] * 3, fps=None
    )
    assert processor.grids == {400: (8, 84), 100: (4, 56)}
    processor.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "video_preprocessor_config.json").read_text())
    assert saved["grids"] == {"100": [4, 56], "400": [8, 84]} and saved["token_budget"] == 100
    for loaded in (FluxVideoProcessor.from_pretrained(tmp_path), AutoVideoProcessor.from_pretrained(tmp_path)):
        assert type(loaded) is FluxVideoProcessor and loaded.to_dict() == processor.to_dict()
        assert loaded.grids == processor.grids
        assert torch.equal(
            loaded(mp4, return_tensors="pt")["pixel_values_videos"],
            processor(mp4, return_tensors="pt")["pixel_values_videos"],
        )
    changed = FluxVideoProcessor.from_pretrained(tmp_path, token_budget=400, num_frames=2)
    assert (changed.token_budget, changed.num_frames, changed.choose_grid()) == (400, 2, (2, 84))
    assert FluxVideoProcessor.from_dict(processor.to_dict(), grids=None, token_budget=512).token_budget == 512
    FluxVideoProcessor(num_frames=3, size=70, crop_size=42).save_pretrained(tmp_path)
    own = dict.fromkeys(("num_frames", "size", "crop_size"))
    assert FluxVideoProcessor.from_pretrained(tmp_path, **own, grids={512: (5, 56)}).choose_grid(512) == (5, 56)


BAD_OPTIONS = [
    ({"token_budget": "64"}, "token_budget"),
    ({"token_budget": 64.0}, "token_budget"),
    ({"token_budget": 0}, "token_budget'.*integer >= 1, got 0"),
    ({"token_budget": -5}, "token_budget'.*integer >= 1, got -5"),
    ({"token_budget": True}, "token_budget'.*True"),
    ({"num_frames": -3}, "num_frames'.*integer >= 1"),
    ({"num_frames": 0}, "num_frames'.*integer >= 1"),
    ({"num_frames": "8"}, "num_frames"),
    ({"fps": 0}, "fps'.*number > 0"),
    ({"fps": -1.5}, "fps'.*number > 0"),
    ({"patch_size": 0}, "patch_size'.*integer >= 1"),
    ({"patch_size": "14"}, "patch_size"),
    ({"size": {"shortest_edge": -3}}, "size'.*integer >= 1, got -3"),
    ({"size": 0}, "size'.*integer >= 1, got 0"),
    ({"size": "big"}, "size"),
    ({"crop_size": {"height": 0, "width": 5}}, "crop_size'.*integer >= 1"),
    ({"grids": [(8, 224)]}, "grids"),
    ({"grids": {512: 8}}, "grids entry '?512'?: 8"),
    ({"grids": {"some": (8, 224)}}, "grids entry 'some'"),
    ({"grids": {512: (8, 225)}}, "grids entry 512.*multiple of patch_size=14"),
    ({"grids": {512: (8, 224)}, "patch_size": 15}, "grids entry 512.*multiple of patch_size=15"),
    ({"grids": {512: (8, 224)}, "tubelet_size": 3}, "grids entry 512.*multiple of tubelet_size=3, got 8"),
    ({"num_frames": 5, "tubelet_size": 2}, "num_frames must be a multiple of tubelet_size=2, got 5"),
    ({"tubelet_size": 0}, "tubelet_size'.*integer >= 1, got 0"),
    ({"tubelet_size": "2"}, "tubelet_size"),
    ({"size": {"edge": 5}}, "size must have"),
    ({"size": {"longest_edge": 5}}, "size must be n, .*got {'longest_edge': 5}"),
    ({"do_resize": "yes"}, "do_resize"),
    ({"token_budgets": 64}, "no option 'token_budgets', did you mean 'token_budget'"),
    ({"nonsense": 3}, "no option 'nonsense'; options are .*token_budget"),
]


@pytest.mark.parametrize("options, message", BAD_OPTIONS, ids=[str(options) for options, _ in BAD_OPTIONS])
def test_bad_options(options, message, tmp_path, mp4):
    errors = (StrictDataclassFieldValidationError, ValueError, TypeError)
    message = f"(?s){message}"
    with pytest.raises(errors, match=message):
        FluxVideoProcessor(**options)
    with pytest.raises(errors, match=message):
        FluxVideoProcessor()(mp4, **options)
    if set(options) <= set(FluxVideoProcessor.valid_kwargs.__annotations__):
        FluxVideoProcessor().save_pretrained(tmp_path)
        with pytest.raises(errors, match=message):
            FluxVideoProcessor.from_pretrained(tmp_path, **options)
        (tmp_path / "video_preprocessor_config.json").write_text(json.dumps(FluxVideoProcessor().to_dict() | options))
        with pytest.raises(errors, match=message):
            FluxVideoProcessor.from_pretrained(tmp_path)


def test_unknown_keys_of_a_saved_configuration_are_left_out(tmp_path):
    saved = FluxVideoProcessor(token_budget=64).to_dict() | {"from_the_future": 1, "processor_class": "X"}
    (tmp_path / "video_preprocessor_config.json").write_text(json.dumps(saved))
    loaded = FluxVideoProcessor.from_pretrained(tmp_path)
    assert loaded.token_budget == 64 and not hasattr(loaded, "from_the_future")


@pytest.mark.parametrize(
    "video, error, message",
    [
        ("gone.mp4", VideoDecodeError, "gone.mp4: no such file"),
        (b"", VideoDecodeError, "no bytes"),
        ({"path": None, "bytes": None}, VideoDecodeError, "neither"),
        (3, TypeError, "a video must be a path.*got int"),
        (None, TypeError, "got NoneType"),
        ({"video": "clip.mp4"}, TypeError, "got dict"),
        ([], ValueError, "empty"),
        ([[]], ValueError, "empty"),
        (np.zeros((5, 6)), ValueError, r"4 dimensions.*got shape \(5, 6\)"),
        (np.zeros((0, 6, 6, 3), np.uint8), ValueError, "no frames or no pixels"),
        ([np.zeros((6, 6, 3)), np.zeros((6, 7, 3))], ValueError, "must have one size"),
    ],
)
def test_bad_videos(video, error, message):
    with pytest.raises(error, match=message):
        FluxVideoProcessor()(video)


def test_bad_metadata():
    with pytest.raises(ValueError, match="2 videos but 1 entries of video_metadata"):
        FluxVideoProcessor()([pictures(5), pictures(5)], video_metadata={"total_num_frames": 5})
    with pytest.raises(ValueError, match="says 50 frames, the array has 5"):
        FluxVideoProcessor()(pictures(5), video_metadata={"total_num_frames": 50})


def test_only_the_frames_of_the_grid_are_decoded_and_resized(monkeypatch):
    from flux_hf.processing import video_decoding_fluxvit as decoding

    written = []
    original = decoding.FrameWriter.write
    monkeypatch.setattr(decoding.FrameWriter, "write", lambda *args: written.append(args[1]) or original(*args))
    resized = []
    resize = FluxVideoProcessor.resize
    monkeypatch.setattr(
        FluxVideoProcessor, "resize", lambda self, v, **kw: resized.append(v.shape) or resize(self, v, **kw)
    )
    FluxVideoProcessor(token_budget=64)(encode_video(100, options={"g": "1"}))
    assert len(written) == 4 and resized == [(4, 3, 96, 128)]


def test_saved_code_runs_without_the_package(tmp_path, mp4, warm_python):
    """The files copied beside a checkpoint are enough for trust_remote_code where flux_hf cannot be imported."""
    folder, clip = tmp_path / "checkpoint", tmp_path / "clip.mp4"
    folder.mkdir()
    clip.write_bytes(mp4)
    FluxVideoProcessor.register_for_auto_class()
    FluxVideoProcessor(token_budget=64).save_pretrained(folder)
    script = (
        "import sys; sys.modules['flux_hf'] = None\n"
        "from transformers import AutoVideoProcessor\n"
        "processor = AutoVideoProcessor.from_pretrained(sys.argv[1], trust_remote_code=True)\n"
        "batch = processor(sys.argv[2], return_tensors='pt')\n"
        "print(type(processor).__module__, tuple(batch['pixel_values_videos'].shape), batch['token_budget'])\n"
        "try: processor(b'x')\n"
        "except ValueError as error: print(type(error).__name__)\n"
    )
    done = warm_python.run(script, folder, clip, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "transformers_modules" in done.stdout and "(1, 4, 3, 112, 112) 64" in done.stdout
    assert "VideoDecodeError" in done.stdout
