import pytest
import torch
from torch.nn.functional import interpolate

from flux_hf import FluxViTConfig, FluxViTModel
from flux_hf.modeling.position_embedding_fluxvit import CACHED_GRIDS, PositionEmbedding, sine_cosine_table

CONFIG = FluxViTConfig(
    hidden_size=32, num_attention_heads=4, pooler_num_attention_heads=4, position_frames=4, position_size=56
)


@pytest.fixture
def positions():
    module = PositionEmbedding(CONFIG).eval()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter)
    return module


@pytest.mark.parametrize("grid", [(4, 4, 4), (8, 4, 4), (1, 4, 4), (4, 6, 6), (7, 3, 5)])
def test_scales_then_interpolates_time_then_space(positions, grid):
    """The official order: the affine map on the stored table first, then time, then space."""
    table = (positions.table * positions.weight + positions.bias).reshape(1, 4, 4, 4, 32)
    over_time = interpolate(table.permute(0, 2, 3, 4, 1).reshape(1, -1, 4), size=grid[0], mode="linear")
    images = over_time.reshape(4, 4, 32, grid[0]).permute(3, 2, 0, 1)
    expected = interpolate(images, size=grid[1:], mode="bicubic").permute(0, 2, 3, 1).reshape(-1, 32)
    torch.testing.assert_close(positions(*grid)[1], expected, atol=2e-5, rtol=1e-5)


def test_initial_table_codes_time_column_and_row():
    table = sine_cosine_table((3, 4, 5), 32).reshape(3, 4, 5, 32)
    assert (table[:, :1, :1, :8] == table[..., :8]).all(), "the first quarter depends on the frame alone"
    assert (table[:1, :1, :, 8:20] == table[..., 8:20]).all(), "then columns"
    assert (table[:1, :, :1, 20:] == table[..., 20:]).all(), "then rows"
    assert table[2, 0, 0, 0] == torch.tensor(2.0).sin()
    assert table[0, 0, 3, 8] == torch.tensor(3.0).sin()


def test_tables_are_kept_outside_training_and_renewed_when_parameters_change(positions):
    with torch.no_grad():
        first = positions(8, 6, 6)[1]
        assert positions(8, 6, 6)[1] is first
        positions.table.add_(1.0)
        assert not torch.equal(positions(8, 6, 6)[1], first)
        renewed = positions(8, 6, 6)[1]
        positions.load_state_dict({name: value * 2 for name, value in positions.state_dict().items()})
        assert not torch.equal(positions(8, 6, 6)[1], renewed)
        assert positions.double()(8, 6, 6)[1].dtype == torch.float64
    assert positions.train()(8, 6, 6)[1].requires_grad


def test_the_number_of_kept_tables_is_bounded(positions):
    with torch.no_grad():
        for frames in range(1, 3 * CACHED_GRIDS):
            positions(frames, 2, 2)
    assert len(positions._cache) == CACHED_GRIDS


def test_tables_kept_in_inference_mode_serve_a_later_forward_with_gradients():
    model = FluxViTModel(CONFIG).eval()
    video = torch.randn(1, 6, 3, 42, 42)
    with torch.inference_mode():
        expected = model(video).pooler_output
    with torch.no_grad():
        torch.testing.assert_close(model(video).pooler_output, expected.clone())
    output = model(video).pooler_output
    output.sum().backward()
    torch.testing.assert_close(output, expected.clone())
