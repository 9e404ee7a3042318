"""Clips composed while training: the motion in the pixels, the camera, the codec, and the training command."""

import math
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from scipy.fft import dctn
from torchvision.transforms.v2.functional import gaussian_blur

from flux_hf.data import load_video_dataset
from flux_hf.modeling.modeling_fluxvit import FluxViTForVideoClassification
from flux_hf.scripts.experiments.motion_clips_endless import (
    camera,
    clips,
    company,
    hands,
    layers,
    motions,
    walkers,
    write,
)
from flux_hf.scripts.experiments.motion_clips_endless.dice import Dice
from flux_hf.scripts.experiments.motion_clips_endless.supply import ClipSupply
from flux_hf.scripts.experiments.motion_clips_endless.train import main
from flux_hf.scripts.experiments.motion_clips_pictures import motions as of_pictures
from flux_hf.training.label_symmetries import load_label_symmetries

SYMMETRIES = "scripts/experiments/recipes/motion_symmetries.yaml"


@pytest.fixture(scope="module")
def banks():
    return layers.make_banks(32, Dice(seed=1))


def test_the_same_seed_gives_the_same_clips(banks):
    first, again, other = (clips.compose(9, banks, Dice(seed=seed), frames=4, side=64) for seed in (5, 5, 6))
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])
    assert first[0].shape == (9, 4, 3, 64, 64) and 0 <= first[0].min() < 0.3 < 0.7 < first[0].max() <= 1


@pytest.mark.parametrize("label", motions.LABELS)
def test_pixels_show_what_the_label_says(label):
    """A bright square with a mark on its right end: where both are in the first and in the last frame."""
    piece = torch.zeros(1, 4, 96, 96)
    piece[:, :, 40:56, 16:80] = 1
    piece[:, 1:3, 40:56, 64:80] = 0
    number = torch.tensor([motions.LABELS.index(label)])
    dice, times = Dice(seed=3), torch.linspace(0, 1, 5)[None]
    ways = motions.draw_ways(number, torch.tensor([0.15]), times, dice)
    shown = layers.place(piece, torch.tensor([0.4]), torch.zeros(1), torch.zeros(1, 2), ways, 256)[0]
    found = []
    for red, green, _, cover in (shown[0], shown[-1]):
        rows, columns = torch.meshgrid(*[torch.linspace(-0.5, 0.5, 256)] * 2, indexing="ij")
        middle = [(cover * axis).sum() / cover.sum() for axis in (columns, rows)]
        mark = red - green
        to_mark = [
            (mark * axis).sum() / mark.sum() - centre for axis, centre in zip((columns, rows), middle, strict=True)
        ]
        found.append((*middle, cover.sum().log() / 2, math.atan2(to_mark[1], to_mark[0])))
    x, y, growth, turn = (float(after - before) for before, after in zip(*found, strict=True))
    turn = (turn + math.pi) % (2 * math.pi) - math.pi if abs(turn) < 2 * math.pi else turn
    sign = of_pictures.WAYS.get(label)
    if sign is not None:
        assert sign[0] * x + sign[1] * y > 0.05 and abs(sign[1] * x + sign[0] * y) < 0.4 * math.hypot(x, y)
    elif label in of_pictures.SIZES:
        assert growth * of_pictures.SIZES[label] > 0.15
    elif label in of_pictures.TURNS:
        expected = float(ways.angle[0, -1] - ways.angle[0, 0])
        assert expected * of_pictures.TURNS[label] > 0.2
        assert math.cos(turn - expected) > 0.98
    else:
        assert (x, y, growth, turn) == pytest.approx((0, 0, 0, 0), abs=1e-4)


def many_ways(times: torch.Tensor):
    """500 of each label: labels, radii, and ways at the same times for all."""
    labels = torch.arange(9).repeat_interleave(500)
    radius = Dice(seed=1).uniform((len(labels),), 0.05, 0.3)
    return labels, radius, motions.draw_ways(labels, radius, times.expand(len(labels), -1), Dice(seed=2))


def test_what_else_changes_is_small_beside_the_motion(monkeypatch):
    """In clips in which nothing goes along a line or turns about a pivot."""
    monkeypatch.setattr(motions, "ALONG_A_LINE", 0)
    monkeypatch.setattr(motions, "PIVOT", 0)
    labels, radius, ways = many_ways(torch.tensor([[0.0, 1.0]]))
    x, y, growth, angle = (value[:, 1] - value[:, 0] for value in (ways.x / 2, ways.y / 2, ways.growth, ways.angle))
    edges = torch.stack((torch.hypot(x, y), growth.abs() * radius, angle.abs() * radius), 1)
    for number, name in enumerate(motions.LABELS):
        own = edges[labels == number]
        main = 0 if name in of_pictures.WAYS else 1 if name in of_pictures.SIZES else 2
        if name == "still":
            assert own.max() == 0
        else:
            rest = own[:, [one for one in range(3) if one != main]]
            assert (rest <= motions.COMPANION * own[:, main : main + 1] * 1.001).all() and rest.max() > 0


def test_nothing_is_between_what_moves_and_what_goes_along_a_line():
    """What moves goes at least 2.8 sides of the picture for a growth of 1, what approaches or recedes at most 2.3."""
    labels, _, ways = many_ways(torch.tensor([[0.0, 1.0]]))
    x, y, growth = (value[:, 1] - value[:, 0] for value in (ways.x / 2, ways.y / 2, ways.growth))
    sides = torch.hypot(x, y) / growth.abs().clamp(min=1e-6)
    names = [motions.LABELS[label] for label in labels]
    moves = torch.tensor([name in of_pictures.WAYS for name in names])
    depth = torch.tensor([name in of_pictures.SIZES for name in names])
    assert sides[moves].min() > 2.8 and growth[moves].abs().max() > 0.15
    assert sides[depth].max() < 2.3 and (sides[depth] > 0.8).float().mean() > 0.2


def test_what_goes_along_a_line_leaves_one_point_as_fast_as_it_grows(monkeypatch):
    monkeypatch.setattr(motions, "COMPANION", 0)
    labels, _, ways = many_ways(torch.linspace(0, 1, 5)[None])
    for number, name in enumerate(motions.LABELS):
        rows = labels == number
        size, place = ways.growth[rows].exp(), torch.stack((ways.x[rows], ways.y[rows]), -1) / 2
        if name not in of_pictures.SIZES:
            assert (size == 1).all()
            continue
        assert (size[:, -1] / size[:, 0]).log().mul(of_pictures.SIZES[name]).min() > 0.15
        grown = size[:, :1] / size[:, -1:]
        rest = (place[:, 0] - place[:, -1] * grown) / (1 - grown)
        expected = rest[:, None] + (place[:, :1] - rest[:, None]) * (size / size[:, :1])[..., None]
        assert torch.allclose(place, expected, atol=1e-4)
        away, way = rest.norm(dim=1), (place[:, -1] - place[:, 0]).norm(dim=1)
        assert way.max() <= motions.LONGEST + 1e-4 and way.max() > 0.8
        assert away.max() <= motions.REST[1] + 1e-4
        assert abs((away > 0.01).float().mean() - motions.ALONG_A_LINE) < 0.07


def test_what_turns_about_a_pivot_keeps_its_distance_from_it(monkeypatch):
    monkeypatch.setattr(motions, "COMPANION", 0)
    labels, radius, ways = many_ways(torch.linspace(0, 1, 5)[None])
    for number, name in enumerate(motions.LABELS):
        rows = labels == number
        place, turned = torch.complex(ways.x[rows], ways.y[rows]) / 2, torch.polar(torch.ones(()), ways.angle[rows])
        if name in of_pictures.TURNS:
            pivot = (place[:, 0] * turned[:, -1] - place[:, -1] * turned[:, 0]) / (turned[:, -1] - turned[:, 0])
            assert torch.allclose((place - pivot[:, None]) / turned, -pivot[:, None].expand(place.shape), atol=1e-4)
            assert (pivot.abs() <= motions.PIVOT * radius[rows] + 1e-4).all()
            assert abs((pivot.abs() > 1e-4).float().mean() - 0.35) < 0.07


def white_banks() -> layers.Banks:
    """Discs of one colour."""
    x = torch.linspace(-1, 1, layers.PIECE)
    return layers.Banks(torch.ones(1, 3, 96, 96), (torch.hypot(x[None], x[:, None]) < 0.9).float()[None])


def of_label(name: str, count: int, times: torch.Tensor, seed: int = 0):
    """Sizes, places and ways of objects that do that."""
    dice = Dice(seed=seed)
    size, places = dice.log_uniform((count,), 0.01, 0.04), dice.uniform((count, 2), -0.4, 0.4)
    labels = torch.full((count,), motions.LABELS.index(name))
    return labels, size, places, motions.draw_ways(labels, (size / math.pi).sqrt(), times, dice)


def middles(layer: torch.Tensor) -> torch.Tensor:
    """(clips, frames, 2): the middle of what is covered, in half sides; nan where the edge cuts it or nothing is."""
    cover, side = layer[:, :, 3], layer.shape[-1]
    across = (torch.arange(side) + 0.5) / side * 2 - 1
    area = cover.sum((2, 3))
    middle = torch.stack(((cover * across).sum((2, 3)), (cover * across[:, None]).sum((2, 3))), -1) / area[..., None]
    rim = cover[..., 0, :].sum(-1) + cover[..., -1, :].sum(-1) + cover[..., :, 0].sum(-1) + cover[..., :, -1].sum(-1)
    return middle.where(((rim == 0) & (area > 0))[..., None], torch.nan)


@pytest.mark.parametrize("name", ["approaches", "moves_left"])
def test_another_object_as_far_away_is_part_of_the_same_rigid_scene(monkeypatch, name):
    """Its way from the first one grows as both do."""
    monkeypatch.setattr(company, "FURTHER", (1.0, 1.0))
    times = torch.linspace(0, 1, 4).expand(60, -1)
    _, size, places, ways = of_label(name, 60, times)
    (layer,) = company._other(size, places, ways, times, white_banks(), 128, Dice(seed=1))
    other = middles(layer)
    apart = other - places[:, None] - torch.stack((ways.x, ways.y), -1)
    apart = apart / ways.growth.exp()[..., None]
    seen = ~apart.isnan().any(2)
    assert (seen.sum(1) > 1).sum() > 15
    spread = (apart - apart.nanmean(1, keepdim=True)).abs().nan_to_num()
    assert spread.max() < 0.02 and apart[seen].abs().mean() > 0.2


@pytest.mark.parametrize("name", ["approaches", "recedes", "moves_left"])
def test_another_object_is_part_of_the_same_rigid_scene(name):
    """Its size tells how far away it is, and its place agrees: a camera that sees the first one go on its way in space
    sees the other one there, that far away."""
    times = torch.linspace(0, 1, 5).expand(200, -1)
    _, size, places, ways = of_label(name, 200, times)
    (layer,) = company._other(size, places, ways, times, white_banks(), 128, Dice(seed=1))
    middle, cover = middles(layer), layer[:, :, 3].sum((2, 3))
    middle = middle.where((cover > 60)[..., None], torch.nan)
    grown = (cover / cover[:, 2:3]).sqrt()
    distance = (-ways.growth).exp()
    distance = distance / distance[:, 2:3]  # of the first one, 1 in mid-clip
    way = torch.stack((ways.x, ways.y), -1) * distance[..., None]
    way = way - way[:, 2:3]
    checked = []
    for row in range(200):
        for end in (0, 4):
            ahead = distance[row, end] - 1
            if not middle[row, [2, end]].isnan().any() and abs(ahead) > 0.15:
                further = ahead / (1 / grown[row, end] - 1)
                expected = (middle[row, 2] - places[row]) * further + way[row, end]
                found = (middle[row, end] - places[row]) * (further + ahead)
                checked.append((further.item(), (found - expected).norm().item() / further.item()))
            elif name == "moves_left" and not middle[row, [2, end]].isnan().any():
                steps = middle[row, end] - middle[row, 2]
                checked.append(
                    (
                        float(way[row, end].norm() / steps.norm()),
                        abs(steps[1] - steps[0] * way[row, end, 1] / way[row, end, 0]),
                    )
                )
    further, apart = torch.tensor(checked).T
    assert len(checked) > 30 and apart.median() < 0.02 and apart.quantile(0.9) < 0.1
    as_far = ((further - 1).abs() < 0.1).float().mean()
    assert 0.3 < as_far < 0.85 and further.quantile(0.95) > 1.5 and further.quantile(0.05) > 0.8


def test_as_many_others_as_the_shares_say(monkeypatch, banks):
    monkeypatch.setattr(company, "LIMBS", 0)
    monkeypatch.setattr(company, "ARM", 0)
    drawn = []
    monkeypatch.setattr(company, "_other", lambda size, *_: drawn.append(len(size)) or iter(()))
    labels, times = torch.arange(9).repeat(400), torch.zeros(3600, 1)
    ways = motions.Ways(*[torch.zeros(3600, 1)] * 4)
    scene, none = torch.zeros(3600, 1, 3, 16, 16), torch.zeros(0, dtype=torch.long)
    company.add_company(scene, labels, none, torch.ones(3600), torch.zeros(3600, 2), ways, times, banks, Dice(seed=1))
    assert [count / 2400 for count in drawn] == pytest.approx(sorted(company.OTHERS), abs=0.04)


def test_limbs_swing_about_the_object():
    times = torch.linspace(0, 1, 9).expand(40, -1)
    _, size, places, ways = of_label("moves_right", 40, times)
    one, two = (middles(layer) for layer in company._limbs(size, places, ways, times, white_banks(), 128, Dice(seed=1)))
    body = places[:, None] + torch.stack((ways.x, ways.y), -1)
    directions = []
    for limb in (one, two):
        away = limb - body
        far = away.norm(dim=2) / ways.growth.exp() / (2 * (size / math.pi).sqrt())[:, None]
        seen = ~far.isnan()
        assert seen.sum() > 60 and 0.45 < far[seen].min() and far[seen].max() < 1.15
        directions.append(torch.atan2(away[..., 1], away[..., 0]) - ways.angle)
    swings = [torch.remainder(way.diff(dim=1) + math.pi, 2 * math.pi) - math.pi for way in directions]
    both = ~(swings[0].isnan() | swings[1].isnan()) & (swings[0].abs() > 0.1)
    assert both.sum() > 15 and ((swings[0] * swings[1])[both] < 0).all()  # against each other
    assert 0.3 < max(swing[both].abs().max() for swing in swings) < 1.5


@pytest.mark.parametrize("name", ["approaches", "moves_up", "turns_clockwise"])
def test_an_arm_reaches_from_the_object_to_the_edge_of_the_picture(name):
    times = torch.linspace(0, 1, 3).expand(30, -1)
    _, size, places, ways = of_label(name, 30, times)
    (layer,) = company._arm(size, places, ways, times, white_banks(), 256, Dice(seed=1))
    cover = layer[:, :, 3]
    body = places[:, None] + torch.stack((ways.x, ways.y), -1)
    inside = (body.abs() < 0.95).all(2)
    column, row = ((body[inside] + 1) * 128).long().unbind(1)
    assert inside.sum() > 60 and (cover[inside][torch.arange(len(row)), row, column] > 0.7).all()
    rims = torch.stack((cover[..., 0, :], cover[..., -1, :], cover[..., :, 0], cover[..., :, -1]), 2)[inside]
    assert (rims.amax((1, 2)) > 0.5).all()
    assert (cover.mean((2, 3))[inside] < 0.6).all()


def test_a_hand_reaches_from_its_end_as_far_as_its_length():
    length, tail = torch.tensor([0.15, 0.3, 0.45]), torch.tensor([0.0, 0.2, 1.0])
    pieces, scale = hands.cut_hands(length, tail, white_banks(), 256, Dice(seed=1))
    still = motions.Ways(*[torch.zeros(3, 1)] * 4)
    for turned in (0.0, 2.0):
        cover = layers.place(pieces, scale, torch.full((3,), turned), torch.zeros(3, 2), still, 256)[:, 0, 3]
        across = (torch.arange(256) + 0.5) / 256 - 0.5
        along = across * math.cos(turned) + across[:, None] * math.sin(turned)
        off = (across[:, None] * math.cos(turned) - across * math.sin(turned)).abs()
        for hand, far, beyond in zip(cover > 0.05, length, tail, strict=True):  # a pointed tip covers little
            assert along[hand].max() == pytest.approx(float(far), rel=0.2)
            hub = 2.5 * hands.WIDTH[1] / 2
            assert -far * (max(beyond, hub) + 0.1) < along[hand].min() < -far * (beyond - 0.2)
            assert off[hand].max() < 0.3 * far and hand[off < 0.004].float().sum() > 1.6 * 256 * far * (1 + beyond)


def test_some_hands_are_as_long_on_both_sides():
    tails = hands.draw_tails(5000, Dice(seed=1))
    assert (tails == 1).float().mean() == pytest.approx(hands.HORN, abs=0.02)
    assert tails[tails < 1].max() == pytest.approx(hands.TAIL, rel=0.01) and (tails == 0).float().mean() > 0.3


def test_the_end_of_a_hand_that_turns_rests():
    labels, _, ways = many_ways(torch.linspace(0, 1, 5)[None])
    chosen = torch.arange(0, len(labels), 2)
    kept = hands.only_turning(ways, chosen, labels)
    assert torch.equal(kept.angle, ways.angle)
    turns = torch.tensor(["turns" in name for name in motions.LABELS])[labels] & (torch.arange(len(labels)) % 2 == 0)
    for name in ("x", "y", "growth"):
        before, after = getattr(ways, name), getattr(kept, name)
        assert before[turns].abs().max() > 0.03 and (after[turns] == 0).all()
        assert torch.equal(after[~turns], before[~turns])


def test_thin_things_turn_and_do_everything_else():
    labels = torch.arange(9).repeat(2000)
    share = torch.bincount(labels[hands.which_are_hands(labels, Dice(seed=1))], minlength=9) / 2000
    for name, found in zip(motions.LABELS, share.tolist(), strict=True):
        assert found == pytest.approx(hands.OFTEN if "turns" in name else hands.SELDOM, abs=0.04)


def test_dials_and_second_hands_are_about_the_end_that_rests(monkeypatch):
    """Behind hands that turn or are still, and behind nothing else; a dial does not change."""
    labels, times = torch.arange(9), torch.linspace(0, 1, 3).expand(9, -1)
    ways = motions.draw_ways(labels, torch.full((9,), 0.1), times, Dice(seed=2))
    places = Dice(seed=3).uniform((9, 2), -0.3, 0.3)
    scene, chosen = torch.full((9, 3, 3, 128, 128), 0.5), torch.arange(9)

    def changed(dial: float, second: float) -> torch.Tensor:
        monkeypatch.setattr(hands, "DIAL", dial)
        monkeypatch.setattr(hands, "SECOND", second)
        length, banks = torch.full((9,), 0.3), white_banks()
        filled = hands.add_dials(scene, chosen, labels, length, places, ways, banks, Dice(seed=5))
        return (filled - scene).abs().amax(2) > 0.02

    rests = [name == "still" or "turns" in name for name in motions.LABELS]
    dial = changed(1, 0)
    assert dial.flatten(1).any(1).tolist() == rests
    assert torch.equal(dial[:, 0], dial[:, 2])
    second = changed(0, 1)
    assert second.flatten(1).any(1).tolist() == rests
    column, row = ((places[rests] + 1) * 64).long().unbind(1)
    assert second[rests][torch.arange(len(row)), :, row, column].all()
    assert not changed(0, 0).any()


def test_some_labels_come_twice_as_often(banks):
    often = ["approaches", "still"]
    found = torch.bincount(clips.draw_labels(11000, often, Dice(seed=1)), minlength=9) / 1000
    for name, times in zip(motions.LABELS, found.tolist(), strict=True):
        assert times == pytest.approx(2 if name in often else 1, abs=0.15)
    _, labels = clips.compose(9, banks, Dice(seed=1), frames=1, side=16, often=often)
    assert torch.equal(labels, clips.draw_labels(9, often, Dice(seed=1)))


def test_only_what_moves_has_company(monkeypatch, banks):
    """Nothing is added to still clips, and to turning ones nothing but an arm."""
    labels = torch.arange(9)
    times = torch.linspace(0, 1, 3).expand(9, -1)
    _, size, places, ways = of_label("still", 9, times)
    scene = torch.full((9, 3, 3, 64, 64), 0.5)

    def changed(others: float, limbs: float, arm: float, walk: Sequence[int] = ()) -> set[str]:
        for name, share in (("OTHERS", (others,)), ("LIMBS", limbs), ("ARM", arm)):
            monkeypatch.setattr(company, name, share)
        walks = torch.tensor(walk, dtype=torch.long)
        filled = company.add_company(scene, labels, walks, size, places, ways, times, banks, Dice(seed=3))
        return {motions.LABELS[row] for row in range(9) if not torch.equal(filled[row], scene[row])}

    going = set(of_pictures.WAYS) | set(of_pictures.SIZES)
    assert changed(0, 0, 0) == set()
    assert changed(0, 1, 0) == going
    assert changed(0, 0, 1) == going | set(of_pictures.TURNS)
    assert changed(1, 0, 0) <= going and changed(1, 0, 0)
    assert changed(0, 1, 1, walk=range(9)) == set()


def test_the_way_starts_at_nothing_ends_at_all_and_never_goes_back():
    share = motions.progress(torch.linspace(0, 1, 40).expand(300, -1), Dice(seed=4))
    assert share[:, 0] == pytest.approx(0) and share[:, -1] == pytest.approx(1, abs=1e-6)
    assert (share.diff(dim=1) >= -1e-6).all()


def test_the_transform_is_the_cosine_transform_of_scipy():
    frames = torch.rand(2, 3, 1, 32, 32)
    blocks = camera._blocks(frames)
    ours = (blocks @ camera._cosines("cpu").T).unflatten(-1, (8, 8))
    assert np.allclose(ours[1, 2, 0, 5], dctn(frames[1, 2, 0, 8:16, 8:16].numpy(), norm="ortho"), atol=1e-5)
    assert torch.equal(camera._unblocked(blocks, 32), frames)


def test_a_coarse_codec_holds_still_what_hardly_changes():
    noise = 0.02 * torch.randn(1, 6, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    still = torch.full((1, 1, 1, 64, 64), 0.45)
    only_the_first = torch.tensor([[True] + [False] * 5])
    step = torch.full((1, 1, 1), 0.3)
    coded = camera._coded_planes(still + noise, only_the_first, step)
    assert coded.diff(dim=1).abs().max() < 1e-6 and (coded - still).abs().max() < 0.05
    moved = still.repeat(1, 6, 1, 1, 1)
    moved[:, 3:, :, 8:24, 8:24] = 0.9
    follows = camera._coded_planes(moved + noise, only_the_first, step)
    assert (follows[:, 3:, :, 8:24, 8:24] - 0.9).abs().max() < 0.05 and (follows[:, :3] - still).abs().max() < 0.05
    fine = camera._coded_planes(still + noise, only_the_first, torch.full((1, 1, 1), 0.004))
    assert (fine - still - noise).abs().max() < 0.03


def test_blur_is_that_of_torchvision():
    frames, dice = torch.rand(3, 2, 3, 48, 48), Dice(seed=8)
    width = Dice(seed=8).log_uniform((3, 1), 0.3, 1.8)
    blurred = camera._blur(frames, dice)
    for clip in range(3):
        expected = gaussian_blur(frames[clip], 9, float(width[clip]))
        assert torch.allclose(blurred[clip, ..., 4:-4, 4:-4], expected[..., 4:-4, 4:-4], atol=1e-5)


def test_objects_stand_out():
    """Also grey ones in front of the same grey."""
    layer = torch.full((1, 4, 4, 32, 32), 0.0)
    layer[:, :, 3, 8:20, 8:20] = 1
    layer[:, :, :3, 8:20, 8:20] = 0.5
    shown = layers.lay_over(
        clips._standing_out(layer, torch.full((1, 3, 32, 32), 0.5), torch.tensor([0.1])),
        torch.full((1, 4, 3, 32, 32), 0.5),
    )
    assert (shown[..., 8:20, 8:20] - 0.5).abs().min() >= 0.1
    assert (shown[..., 20:, 20:] == 0.5).all()


def supply(banks, **changes):
    options = {
        "frames": 4,
        "sides": [32],
        "source_sides": [64],
        "often": [],
        "looks": 1.0,
        "mean": [0.5] * 3,
        "std": [0.25] * 3,
    }
    symmetries = load_label_symmetries(SYMMETRIES, list(motions.LABELS))
    return ClipSupply(banks, Dice(), symmetries, **options | changes, seed=0)


def test_batches_depend_on_their_numbers_alone(banks):
    one, other = supply(banks), supply(banks)
    other([7, 8])
    first, second = one([40, 3, 4]), other([40, 3, 4])
    assert torch.equal(first["pixel_values_videos"], second["pixel_values_videos"])
    assert torch.equal(first["labels"], second["labels"]) and first["labels"].shape == (3,)
    assert first["pixel_values_videos"].shape == (3, 4, 3, 32, 32)


def test_a_second_look_has_the_labels_of_the_symmetries(banks):
    """As `LabelSymmetries.view`, which turns numpy clips one by one."""
    made = supply(banks)
    pixels, labels = torch.rand(9, 4, 3, 8, 8), torch.arange(9)

    class Once:
        def randrange(self, period):
            return 1

        def integers(self, period):
            return 1

        def random(self):
            return 0.0

    turned, becomes = made._turned(pixels, labels, Once())
    for clip in range(9):
        array, label = made.symmetries.view(pixels[clip].permute(0, 2, 3, 1).numpy(), clip, Once())
        assert np.array_equal(turned[clip].permute(0, 2, 3, 1).numpy(), array) and becomes[clip] == label


def test_second_looks_come_from_batches_before(banks):
    made = supply(banks, looks=4.0, sides=[64])
    for number in range(12):
        made([100 + number, 1])
    assert 1 <= len(made.kept) < 9


@pytest.mark.long
def test_the_command_trains_and_saves_a_classifier(tmp_path):
    recipe = "scripts/experiments/recipes/motion_nano_endless.yaml"
    main([recipe, "--use_cpu", "true", "--max_steps", "4", "--per_device_train_batch_size", "3", "--textures", "16",
          "--output_dir", str(tmp_path / "run")])  # fmt: skip
    model = FluxViTForVideoClassification.from_pretrained(tmp_path / "run").eval()
    assert model.token_budgets == [256, 128, 64] and sorted(model.config.label2id) == sorted(of_pictures.LABELS)
    logits = model(pixel_values_videos=torch.rand(1, 8, 3, 128, 128), token_budget=64).logits
    assert logits.shape == (1, 9) and logits.isfinite().all()


@pytest.mark.parametrize(("steps", "missing"), [("-1", "--max_steps"), ("2", "--label_symmetries")])
def test_the_command_names_what_it_lacks(tmp_path, steps, missing):
    with pytest.raises(ValueError, match=missing):
        main(["--use_cpu", "true", "--max_steps", steps, "--output_dir", str(tmp_path / "run")])


def test_clips_as_files_are_as_many_of_each_label_and_the_first_of_more(tmp_path):
    def written(name: str, clips: int):
        write.main(["--output_dir", str(tmp_path / name), "--clips", str(clips), "--side", "48", "--textures", "16"])
        return load_video_dataset(tmp_path / name, "train")

    few, more = written("few", 9), written("more", 18)
    assert sorted(few["label"]) == list(range(9)) and sorted(more["label"]) == sorted([*range(9)] * 2)
    for video in few["video"]:
        path = Path(video["path"])
        with av.open(str(path)) as container:
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert len(frames) == write.FRAMES and frames[0].shape == (48, 48, 3)
        assert path.read_bytes() == (tmp_path / "more" / path.relative_to(tmp_path / "few")).read_bytes()
    with pytest.raises(ValueError, match="--clips must be a multiple of 9, got 10"):
        written("other", 10)


def test_what_goes_somewhere_walks_at_times():
    labels, hand = torch.arange(9).repeat(1000), torch.arange(0, 9000, 5)
    walks = walkers.which_walk(labels, hand, Dice(seed=1))
    assert not torch.isin(walks, hand).any()
    share = torch.bincount(labels[walks], minlength=9) / 800
    for name, found in zip(motions.LABELS, share.tolist(), strict=True):
        goes = name != "still" and "turns" not in name
        assert found == pytest.approx(walkers.OFTEN if goes else 0, abs=0.05)


def walk_of(count: int, frames: int, banks: layers.Banks):
    """What covers the picture of bodies, of legs and of arms (count, frames, side, side), and their height, 0.6 sides,
    of things that walk on the spot."""
    dice, times = Dice(seed=2), torch.linspace(0, 1, frames).expand(count, -1)
    height, rows = torch.full((count,), 0.6), torch.arange(count)
    still, places = motions.Ways(*[torch.zeros(count, frames)] * 4), torch.zeros(count, 2)
    pieces, scale = walkers.cut_bodies(height, banks, 256, dice)
    ways, phase = walkers.walking(still, rows, height, times, dice)
    lean = torch.zeros(count)
    limbs = list(walkers._limbs(scale, lean, places, ways, phase, banks, 256, dice))
    return layers.place(pieces, scale, lean, places, ways, 256)[:, :, 3], [limb[:, :, 3] for limb in limbs], ways


def rows_covered(cover: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The first and the last row that is covered, in sides from the middle, (count, frames)."""
    row = (torch.arange(cover.shape[-2]) + 0.5) / cover.shape[-2] - 0.5
    there = cover.amax(-1) > 0.3
    return torch.where(there, row, 1).amin(-1), torch.where(there, row, -1).amax(-1)


def test_a_walker_stands_from_head_to_foot():
    body, (left, right, *_), _ = walk_of(20, 9, white_banks())
    top, waist = rows_covered(body)
    assert torch.allclose(top, torch.full_like(top, -0.3), atol=0.05)
    assert ((waist > 0) & (waist < 0.1)).all()
    feet = torch.stack((rows_covered(left)[1], rows_covered(right)[1])).amax((0, 2))  # the lower one, once at least
    assert ((feet > 0.2) & (feet < 0.36)).all()


def test_legs_swing_and_are_lifted_against_each_other(monkeypatch):
    def legs(swing: float, lift: float):
        monkeypatch.setattr(walkers, "SWING", swing)
        monkeypatch.setattr(walkers, "LIFT", lift)
        monkeypatch.setattr(walkers, "SWAY", 0)
        return walk_of(30, 9, white_banks())[1][:2]

    left, right = (middles(torch.stack([leg] * 4, 2))[..., 0] for leg in legs(0.6, 0))
    apart = (left - left.mean(1, keepdim=True)) * (right - right.mean(1, keepdim=True))
    assert apart.sum(1).max() < 0 and (left.amax(1) - left.amin(1)).max() > 0.2
    left, right = (rows_covered(leg)[1] for leg in legs(0, 0.35))
    apart = (left - left.mean(1, keepdim=True)) * (right - right.mean(1, keepdim=True))
    assert apart.sum(1).mean() < -1e-3 and (left.amax(1) - left.amin(1)).max() > 0.05


def test_only_walkers_sway_and_little():
    still = motions.Ways(*[torch.zeros(10, 5)] * 4)
    rows, height = torch.tensor([1, 4, 7]), torch.tensor([0.3, 0.6, 1.2])
    ways, phase = walkers.walking(still, rows, height, torch.linspace(0, 1, 5).expand(3, -1), Dice(seed=1))
    moved = torch.maximum(ways.x.abs(), ways.y.abs()).amax(1)
    assert moved.nonzero()[:, 0].tolist() == rows.tolist() and phase.shape == (3, 5)
    assert (moved[rows] / 2 <= walkers.SWAY * height + 1e-6).all()
    assert torch.equal(ways.growth, still.growth) and torch.equal(ways.angle, still.angle)
