"""What a network of the user's own gives back, and how it is told where that is no scores."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from candlemark.errors import ModelError
from candlemark.models.segmentation.networks import first_output


def test_scores_are_the_tensor_that_comes_first() -> None:
    scores = torch.zeros(1)
    for made in (scores, [scores, 1], {"aux": 1, "out": scores}, {"logits": scores}):
        assert first_output(made) is scores


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (None, "the network returned nothing; allowed"),
        (7, "the network returned a whole number; allowed"),
        (torch.nn.Identity(), "the network returned an Identity; allowed"),
        (["liver"], "the network returned a list whose first part is text; allowed"),
        ({}, "the network returned a mapping whose first part is nothing; allowed"),
    ],
)
def test_what_is_no_scores_is_told_in_words(made: Any, told: str) -> None:
    with pytest.raises(ModelError) as raised:
        first_output(made)
    assert str(raised.value).startswith(told)
