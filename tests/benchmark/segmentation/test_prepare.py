"""Scans become cases, and whatever would fail every trial is refused before the first."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import SimpleITK

from candlemark.benchmark.segmentation.folds import Fold
from candlemark.benchmark.segmentation.prepare import find_cases, prepare
from candlemark.errors import ConfigError, ScanError
from candlemark.scans import reading
from candlemark.scans.nifti import voxels_of

SHAPE = (4, 12, 12)


def test_every_pair_is_a_test_case_where_nothing_learns(config_of, tmp_path):
    found = prepare(config_of(), tmp_path, learns=False)
    assert [case.id for case in found.test] == ["case_1", "case_2", "case_3", "case_4"]
    assert (found.train, dict(found.classes), found.name) == ((), {1: "lesion"}, "scans")
    again = prepare(config_of(), tmp_path, learns=False)
    assert again.content_hash == found.content_hash


@pytest.mark.parametrize("folder", [".", "../images", "../other"])
def test_scans_are_named_by_their_folder_wherever_one_stands(
    config_of, tmp_path, scans, monkeypatch, folder
):
    shutil.copytree(scans / "images", scans / "other")
    monkeypatch.chdir(scans / "images")
    found = prepare(config_of({"image_dir": folder}), tmp_path, learns=False)
    assert found.name == ("other" if folder == "../other" else scans.name)


def test_the_hash_goes_by_content_and_by_what_values_mean(config_of, tmp_path, write_scan, scans):
    first = prepare(config_of(), tmp_path, learns=False).content_hash
    binary = prepare(config_of({"binary": True}), tmp_path, learns=False).content_hash
    write_scan(scans, "case_4", seed=99)
    changed = prepare(config_of(), tmp_path, learns=False).content_hash
    assert len({first, binary, changed}) == 3


def test_the_first_cases_are_taken_as_people_count(config_of, tmp_path, write_scan, scans):
    write_scan(scans, "case_10")
    asked = config_of(benchmark={"max_cases": 4})
    found = find_cases(asked.dataset, tmp_path, max_cases=4)
    assert [match.case for match in found.matches] == ["case_1", "case_2", "case_3", "case_4"]
    assert "case_10" in [m.case for m in find_cases(asked.dataset, tmp_path).matches]


def test_what_stands_alone_is_told_and_left_out(config_of, tmp_path, scans):
    (scans / "masks" / "case_3.nii.gz").rename(scans / "masks" / "case_30.nii.gz")
    found = prepare(config_of(), tmp_path, learns=False)
    assert [case.id for case in found.test] == ["case_1", "case_2", "case_4"]
    assert list(found.pairing.missing_reference) == ["case_3"]
    assert list(found.pairing.missing_image) == ["case_30"]


def test_scans_without_one_pair_are_refused_with_what_helps(config_of, tmp_path, scans):
    for path in (scans / "masks").iterdir():
        path.rename(path.with_name(f"other_{path.name}"))
    with pytest.raises(ScanError, match=r"4 of the images and 4 of the references .*--pairs"):
        prepare(config_of(), tmp_path, learns=False)
    shutil.rmtree(scans / "images")
    (scans / "images").mkdir()
    for name in ("1.dcm", "2.dcm"):
        (scans / "images" / name).write_bytes(b"")
    with pytest.raises(
        ScanError, match=r"slices of one scan belong in a folder named by its case$"
    ):
        prepare(config_of(), tmp_path, learns=False)


def test_another_grid_is_refused_or_resampled_where_asked(config_of, tmp_path, write_scan, scans):
    write_scan(scans, "case_2", origin=(2.0, 0.0, 0.0))
    with pytest.raises(ScanError, match=r"case_2: .*origin.*--geometry resample"):
        prepare(config_of(), tmp_path, learns=False)
    assert len(prepare(config_of({"geometry": "resample"}), tmp_path, learns=False).test) == 4
    write_scan(scans, "case_2", origin=(200.0, 0.0, 0.0))
    with pytest.raises(
        ScanError, match=r"case case_2: the mask lies beside its image, and nothing"
    ):
        prepare(config_of({"geometry": "resample"}), tmp_path, learns=False)


def test_scans_that_were_taken_for_masks_are_told(config_of, tmp_path, scans, reported):
    prepare(config_of({"classes": None}), tmp_path, learns=False)
    assert not any("are they scans?" in line for line in reported)
    swapped = {"image_dir": scans / "masks", "seg_dir": scans / "images", "classes": None}
    prepare(config_of(swapped), tmp_path, learns=False)
    assert any("values beside 0, and each is taken for a class" in line for line in reported)


@pytest.mark.parametrize("learns", [False, True])
@pytest.mark.parametrize("name", ["case_2.nii.gz", "case_2.mha", "case_2.nrrd"])
def test_a_damaged_scan_is_refused_before_anything_runs(config_of, tmp_path, scans, name, learns):
    path = scans / "images" / "case_2.nii.gz"
    image = SimpleITK.ReadImage(str(path))
    path.unlink()
    path = path.with_name(name)
    SimpleITK.WriteImage(image, str(path), useCompression=name != "case_2.nrrd")
    assert len(prepare(config_of(), tmp_path, learns=learns).test) == 4
    damaged = bytearray(path.read_bytes())
    damaged[-6] ^= 1
    path.write_bytes(damaged[:-9] if name == "case_2.nrrd" else damaged)
    with pytest.raises(ScanError, match=rf"cannot read .*{name}: .*; is it damaged"):
        prepare(config_of(), tmp_path, learns=learns)


@pytest.mark.parametrize("learns", [False, True])
def test_an_image_is_read_through_once(config_of, tmp_path, scans, monkeypatch, learns):
    seen = []

    def told(path, start, stop, **options):
        seen.extend([path] * (stop - start))
        return voxels_of(path, start, stop, **options)

    monkeypatch.setattr(reading, "voxels_of", told)
    found = prepare(config_of(), tmp_path, learns=learns)
    depth = SimpleITK.ReadImage(found.test[0].image).GetSize()[2]
    assert [seen.count(case.image) for case in found.test] == [depth] * 4


def test_labels_are_found_where_none_are_named(config_of, tmp_path, write_scan, scans):
    assert dict(prepare(config_of({"classes": None}), tmp_path, learns=False).classes) == {
        1: "foreground"
    }
    two = np.zeros(SHAPE, np.uint8)
    two[1, 2:4, 2:4] = 2
    write_scan(scans, "case_1", labels=two)
    found = prepare(config_of({"classes": None}), tmp_path, learns=False)
    assert dict(found.classes) == {1: "1", 2: "2"}


def test_what_learns_answers_for_every_case_by_heads_that_did_not_see_it(config_of, tmp_path):
    found = prepare(config_of({"folds": 2}), tmp_path, learns=True)
    assert [case.id for case in found.test] == ["case_1", "case_2", "case_3", "case_4"]
    assert sorted(one for fold in found.folds for one in fold.test) == [
        case.id for case in found.test
    ]
    assert all(set(fold.train) & set(fold.test) == set() for fold in found.folds)
    assert prepare(config_of({"folds": 2}), tmp_path, learns=True).folds == found.folds
    drawn = {
        prepare(config_of({"folds": 2, "seed": s}), tmp_path, learns=True).train_hash
        for s in range(6)
    }
    assert len(drawn) > 1


def test_a_probe_changes_no_case_of_the_other_rows(config_of, tmp_path):
    alone = prepare(config_of(), tmp_path, learns=False)
    beside = prepare(config_of(), tmp_path, learns=True)
    assert (alone.test, alone.content_hash) == (beside.test, beside.content_hash)
    assert alone.folds == ()


def test_a_declared_split_is_one_fold_and_no_other_can_be_asked_for(config_of, tmp_path):
    splits = {"train": ["case_3", "case_1"], "test": ["case_2"]}
    found = prepare(config_of({"splits": splits}), tmp_path, learns=True)
    assert found.folds == (Fold(train=("case_3", "case_1"), test=("case_2",)),)
    assert [[case.id for case in side] for side in (found.train, found.test)] == [
        ["case_1", "case_3"],
        ["case_2"],
    ]
    alone = prepare(config_of({"splits": splits}), tmp_path, learns=False)
    assert (alone.test, alone.train, alone.folds) == (found.test, (), ())
    with pytest.raises(ConfigError, match="splits names who learns and who is tested; take folds"):
        config_of({"splits": splits, "folds": 3})


@pytest.mark.parametrize(
    ("splits", "said"),
    [
        ({"train": ["case_1"], "test": ["case_1", "case_2"]}, "'case_1' in train and in test"),
        ({"train": ["case_1"], "test": ["case_2", "case_2"]}, "'case_2' twice"),
        ({"train": ["case_1"], "test": ["case_9"]}, "'case_9', which has no image"),
        ({"test": ["case_1"]}, "no case in 'train'"),
        ({"train": ["case_1"], "test": []}, "no case in 'test'"),
    ],
)
def test_a_declared_split_must_hold(config_of, tmp_path, splits, said):
    with pytest.raises(ConfigError, match=said):
        prepare(config_of({"splits": splits}), tmp_path, learns=True)


def test_a_split_that_names_a_case_that_was_cut_off_is_told_so(config_of, tmp_path):
    splits = {"train": ["case_1"], "test": ["case_2", "case_4"]}
    with pytest.raises(ConfigError) as raised:
        prepare(config_of({"splits": splits}, benchmark={"max_cases": 3}), tmp_path, learns=True)
    assert str(raised.value) == (
        "dataset.splits names case 'case_4', which max_cases left out: it takes the first 3 of 4; "
        "raise it (0: all), or take the case out of the split"
    )
    unknown = {"test": ["case_9"]}
    with pytest.raises(ConfigError, match="'case_9', which has no image and reference here"):
        prepare(config_of({"splits": unknown}, benchmark={"max_cases": 3}), tmp_path, learns=False)


def test_one_scan_under_two_names_is_not_learnt_and_tested(config_of, tmp_path, write_scan, scans):
    write_scan(scans, "case_4", seed=1)  # what case_1 is
    splits = {"train": ["case_1"], "test": ["case_2", "case_4"]}
    with pytest.raises(ConfigError, match="'case_4' of the test split shows the same image as"):
        prepare(config_of({"splits": splits}), tmp_path, learns=True)


def test_black_pictures_are_no_copies_of_each_other(config_of, tmp_path, scans):
    """The first and last slices of most scans are black, and nobody learns one by heart."""
    black = SimpleITK.Image([12, 12, 4], SimpleITK.sitkUInt8)
    for case in ("case_2", "case_3", "case_4"):
        SimpleITK.WriteImage(black, scans / "images" / f"{case}.nii.gz")
        SimpleITK.WriteImage(black, scans / "masks" / f"{case}.nii.gz")
    splits = {"train": ["case_1", "case_2"], "test": ["case_3", "case_4"]}
    data = {"splits": splits, "geometry": "resample"}
    assert len(prepare(config_of(data), tmp_path, learns=True).test) == 2
    dealt = prepare(config_of({"folds": 4, "geometry": "resample"}), tmp_path, learns=True).folds
    assert [len(fold.test) for fold in dealt] == [1, 1, 1, 1]


def test_an_image_that_was_copied_and_drawn_anew_is_not_learnt_and_tested(
    config_of, tmp_path, write_scan, scans
):
    """Saved by another program, with the mask of another reader: no byte of both is the same."""
    images = scans / "images"
    copy = SimpleITK.Cast(SimpleITK.ReadImage(images / "case_1.nii.gz"), SimpleITK.sitkFloat32)
    (images / "case_4.nii.gz").unlink()
    SimpleITK.WriteImage(copy, images / "case_4.nii")
    for fold in prepare(config_of({"folds": 3}), tmp_path, learns=True).folds:
        assert ("case_1" in fold.test) == ("case_4" in fold.test)
    splits = {"train": ["case_1"], "test": ["case_2", "case_4"]}
    with pytest.raises(ConfigError, match="'case_4' of the test split shows the same image as"):
        prepare(config_of({"splits": splits}), tmp_path, learns=True)


def test_one_case_is_too_few_to_learn(config_of, tmp_path):
    asked = config_of(benchmark={"max_cases": 1})
    assert len(prepare(asked, tmp_path, learns=False).test) == 1
    with pytest.raises(ConfigError, match="by what it learnt from others, and there is 1; give"):
        prepare(asked, tmp_path, learns=True)


def test_phantoms_need_no_files_and_are_the_same_again(config_of, tmp_path):
    asked = config_of({"image_dir": None, "seg_dir": None, "phantoms": 2})
    first = prepare(asked, tmp_path, learns=False)
    assert prepare(asked, tmp_path, learns=False).content_hash == first.content_hash
    elsewhere = prepare(asked, tmp_path / "else", learns=False)
    assert elsewhere.content_hash == first.content_hash


def test_values_that_are_no_class_are_refused_before_anything_runs(
    config_of, tmp_path, write_scan, scans
):
    strange = np.zeros((4, 12, 12), np.uint8)
    strange[1, 2:4, 2:4] = 7
    write_scan(scans, "case_2", labels=strange)
    with pytest.raises(ScanError, match=r"case_2.*values that are no class: 7 .4 voxels."):
        prepare(config_of(), tmp_path, learns=False)
    binary = config_of({"binary": True, "classes": None})
    assert prepare(binary, tmp_path, learns=False).classes == {1: "foreground"}


def test_references_without_a_class_are_told_and_without_any_refused(
    config_of, tmp_path, write_scan, scans, reported
):
    prepare(config_of({"classes": {1: "lesion", 2: "vessel"}}), tmp_path, learns=False)
    assert any("no reference has vessel" in line for line in reported)
    for number in range(1, 5):
        write_scan(scans, f"case_{number}", labels=np.zeros((4, 12, 12), np.uint8))
    for data in ({}, {"classes": None}, {"binary": True, "classes": None}):
        with pytest.raises(ScanError, match=r"every (one|reference) is empty"):
            prepare(config_of(data), tmp_path, learns=False)
