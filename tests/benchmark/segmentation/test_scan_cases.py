"""Every case id gives a mask's file of its own, inside the folder it was meant for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from candlemark.benchmark.segmentation.scan_cases import (
    OpenScan,
    ScanCase,
    keep_mask,
    kept_mask,
    mask_name,
    open_scan_case,
)


def _opened(folder: Path) -> OpenScan:
    np.save(folder / "scan.npy", np.zeros((2, 3, 4), np.int16))
    path = folder / "scan.npy"
    return open_scan_case(ScanCase(id="a", image=path, reference=path, sha256=""))


@pytest.mark.parametrize(
    ("case_id", "name"),
    [
        ("case_7", "case_7.nii.gz"),
        ("p7/t1", "p7%2Ft1.nii.gz"),
        ("../../secret", "%2E.%2F..%2Fsecret.nii.gz"),
        ("..", "%2E..nii.gz"),
        (".hidden", "%2Ehidden.nii.gz"),
        ("a\\b", "a%5Cb.nii.gz"),
        ("100%", "100%25.nii.gz"),
        ("\u75c5\u4f8b 3", "\u75c5\u4f8b 3.nii.gz"),
        ("b\udcff", "b%FF.nii.gz"),
    ],
)
def test_names_stay_readable_and_inside_the_folder(case_id: str, name: str) -> None:
    assert mask_name(case_id, picture=False) == name
    assert mask_name(case_id, picture=True) == name.removesuffix(".nii.gz") + ".png"


@given(st.lists(st.text(max_size=12) | st.sampled_from(["a/b", "a%2Fb"]), unique=True, max_size=6))
def test_no_two_cases_share_a_file(case_ids: list[str]) -> None:
    names = [mask_name(case_id, picture=False) for case_id in case_ids]
    assert len(set(names)) == len(case_ids)
    assert all("/" not in name and not name.startswith(".") for name in names if name[:4] != ".nii")


@pytest.mark.parametrize("case_id", ["\u75c5\u4f8b" * 60, "long_" * 80])
def test_a_long_id_is_cut_and_stays_its_own(tmp_path: Path, case_id: str) -> None:
    scan = _opened(tmp_path)
    labels = np.zeros((2, 3, 4), np.uint8)
    kept = {keep_mask(labels, scan, tmp_path / "p", f"{case_id}{end}") for end in "xy"}
    assert len(kept) == 2
    assert {kept_mask(tmp_path / "p", f"{case_id}{end}") for end in "xy"} == kept
