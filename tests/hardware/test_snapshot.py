"""What a number was measured on."""

from __future__ import annotations

import json

import numpy as np
import torch

from candlemark.hardware.comparability import COMPARED, comparability_key, differing_fields
from candlemark.hardware.snapshot import snapshot

CPU = torch.device("cpu")


def test_snapshot_is_plain_json_and_names_this_machine() -> None:
    here = snapshot(CPU, precision="fp32", batch_size=1)
    assert json.loads(json.dumps(here)) == here
    assert here["packages"]["numpy"] == np.__version__
    assert here["threads"] == torch.get_num_threads()
    assert here["usable_cores"] >= 1
    assert here["precision"] == "fp32"
    assert here["gpu"] is None


def test_equal_conditions_have_equal_keys() -> None:
    assert comparability_key(snapshot(CPU)) == comparability_key(snapshot(CPU))
    assert differing_fields(snapshot(CPU), snapshot(CPU)) == {}


def test_every_compared_field_changes_the_key_and_is_named() -> None:
    here = snapshot(CPU, precision="fp32", batch_size=1)
    for name in COMPARED:
        there = {**here, name: "something else"}
        assert comparability_key(there) != comparability_key(here), name
        assert list(differing_fields(here, there)) == [name]


def test_a_differing_package_is_named_with_both_versions() -> None:
    here = snapshot(CPU)
    there = {**here, "packages": {**here["packages"], "timm": "0.1"}}
    assert differing_fields(here, there) == {"packages.timm": (here["packages"]["timm"], "0.1")}


def test_what_moves_no_number_is_not_compared() -> None:
    here = snapshot(CPU)
    assert comparability_key({**here, "release": "other"}) == comparability_key(here)
