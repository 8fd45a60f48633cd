"""Layers of networks as maps: which are taken, and that tokens lie where they looked."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from candlemark.errors import ModelError
from candlemark.models.segmentation.maps import as_map, chosen_maps, evenly


def layer(channels: int, places: int) -> torch.Tensor:
    return torch.zeros(1, channels, places, places)


def shapes(*layers: torch.Tensor, side: int = 64) -> list[tuple[int, int]]:
    maps = chosen_maps(layers, side)
    assert list(maps) == [f"map{number}" for number in range(len(maps))]
    return [(one.shape[1], one.shape[2]) for one in maps.values()]


def test_of_each_resolution_the_last_map_is_taken_and_the_finest_comes_first() -> None:
    stages = [layer(8, 16), layer(9, 16), layer(10, 8), layer(11, 4), layer(12, 4), layer(13, 2)]
    assert shapes(*stages) == [(9, 16), (10, 8), (12, 4), (13, 2)]


def test_maps_finer_than_a_quarter_are_left_out_unless_there_are_no_others() -> None:
    assert shapes(layer(4, 64), layer(5, 32), layer(6, 16), layer(7, 8)) == [(6, 16), (7, 8)]
    assert shapes(layer(4, 64), layer(5, 32)) == [(4, 64), (5, 32)]


def test_of_five_resolutions_the_coarser_four_are_taken() -> None:
    sizes = (16, 8, 4, 2, 1)
    assert [places for _, places in shapes(*(layer(3, one) for one in sizes))] == [8, 4, 2, 1]


def test_layers_of_one_resolution_are_taken_evenly_with_the_last() -> None:
    twelve = [layer(number, 8) for number in range(1, 13)]
    assert [channels for channels, _ in shapes(*twelve)] == [3, 6, 9, 12]
    assert [channels for channels, _ in shapes(*twelve[:2])] == [1, 2]


@given(st.integers(1, 60))
def test_evenly_never_repeats_and_ends_with_the_last(count: int) -> None:
    taken = evenly(list(range(count)))
    assert taken == sorted(set(taken))
    assert taken[-1] == count - 1
    assert len(taken) == min(4, count)


@pytest.mark.parametrize("prefix", [0, 1, 5])
@pytest.mark.parametrize("patch", [8, None])
def test_tokens_become_the_places_they_looked_at(prefix: int, patch: int | None) -> None:
    """Four rows and columns of tokens; each holds its own row and column as its features."""
    places = torch.stack(torch.meshgrid(torch.arange(4), torch.arange(4), indexing="ij"), -1)
    tokens = torch.cat([torch.full((1, prefix, 2), -1), places.reshape(1, 16, 2)], 1)
    found = as_map(tokens.float(), 32, patch)
    assert found.shape == (1, 2, 4, 4)
    assert found[0, 0].tolist() == [[row] * 4 for row in range(4)]
    assert found[0, 1].tolist() == [[0, 1, 2, 3]] * 4


def test_channels_may_come_last() -> None:
    found = as_map(torch.arange(2 * 4 * 4 * 3).reshape(2, 4, 4, 3).float(), 32, None)
    assert found.shape == (2, 3, 4, 4)
    assert found[0, :, 0, 0].tolist() == [0, 1, 2]


def test_what_is_no_map_is_refused() -> None:
    with pytest.raises(ModelError, match=r"60 tokens of a picture of 56 x 56 px fill no square"):
        as_map(torch.zeros(1, 60, 4), 56, 16)
    with pytest.raises(ModelError, match=r"\(1, 4\) is neither a map nor tokens"):
        as_map(torch.zeros(1, 4), 32, None)
    with pytest.raises(ModelError, match=r"\(1, 3, 4, 5\) is no map of a square picture"):
        chosen_maps([torch.zeros(1, 3, 4, 5)], 32)
