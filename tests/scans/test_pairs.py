"""Pairs are exact: by case id, with misses and doubts said, and nothing guessed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlemark.errors import ScanError
from candlemark.scans.pairs import (
    Match,
    Pairing,
    case_id,
    content_hash,
    counting,
    file_hash,
    pair,
    predictions_of,
    read_pairs,
    scans_in,
)


def folder_of(where: Path, names: Sequence[str]) -> Path:
    for name in names:
        path = where / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return where


def paired(tmp_path: Path, images: Sequence[str], masks: Sequence[str]) -> Pairing:
    return pair(folder_of(tmp_path / "images", images), folder_of(tmp_path / "masks", masks))


def as_names(found: Pairing) -> dict[str, tuple[str, str]]:
    return {m.case: (m.image.name, m.reference.name) for m in found.matches}


def test_case_1_is_not_case_10(tmp_path: Path) -> None:
    found = paired(tmp_path, ["case_1.nii.gz", "case_2.nii.gz"], ["case_10.nii.gz"])
    assert found.matches == ()
    assert list(found.missing_reference) == ["case_1", "case_2"]
    assert list(found.missing_image) == ["case_10"]
    both = paired(tmp_path, ["case_10.nii.gz"], ["case_1.nii.gz"])
    assert as_names(both) == {
        "case_1": ("case_1.nii.gz", "case_1.nii.gz"),
        "case_10": ("case_10.nii.gz", "case_10.nii.gz"),
    }


@pytest.mark.parametrize(
    ("image", "mask", "case"),
    [
        ("a.nii.gz", "a.nii", "a"),
        ("a_image.nrrd", "a_label.nrrd", "a"),
        ("a_img.png", "a_mask.png", "a"),
        ("a-img.png", "a-gt.tif", "a"),
        ("a.b.nii", "a.b_seg.nii", "a.b"),
        ("A_Image.PNG", "A_Segmentation.png", "A"),
        ("a_0000.nii.gz", "a.nii.gz", "a"),
        ("a_image_0000.nii.gz", "a_mask.nii.gz", "a"),
        ("img0001.nii", "label0001.nii", "0001"),
        ("volume-7.nii", "segmentation-7.nii", "7"),
        ("scan_7.nii", "scan_7.nii", "scan_7"),
        ("scan_7.nii", "mask_7.nii", "7"),
        ("frame_0001.png", "frame_0001.png", "frame_0001"),
        ("p7/image.nii.gz", "p7/seg.nii.gz", "p7"),
        ("p7/p7_img.nii.gz", "p7_seg.nii.gz", "p7"),
        ("mask_of_zorro.png", "mask_of_zorro.png", "of_zorro"),
    ],
)
def test_names_that_belong_together(tmp_path: Path, image: str, mask: str, case: str) -> None:
    found = paired(tmp_path, [image], [mask])
    assert as_names(found) == {case: (Path(image).name, Path(mask).name)}
    assert found.missing_image == found.missing_reference == {}
    assert found.doubts == ()


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("case_1.nii", "case_01.nii"),
        ("case_1.nii", "Case_1.nii"),
        ("unmask.png", "un.png"),
        ("a_0001.nii.gz", "a_0002.nii.gz"),
        ("segment_1.nii", "ment_1.nii"),
    ],
)
def test_names_that_do_not(tmp_path: Path, image: str, mask: str) -> None:
    assert paired(tmp_path, [image], [mask]).matches == ()


def test_frames_keep_their_numbers(tmp_path: Path) -> None:
    names = [f"frame_{place:04d}.png" for place in range(3)]
    assert list(as_names(paired(tmp_path, names, names))) == [name[:-4] for name in names]


def test_two_files_with_one_id_are_a_doubt(tmp_path: Path) -> None:
    found = paired(tmp_path, ["a.nii.gz", "a_img.nrrd", "b.nii.gz"], ["a.nii.gz", "b.nii.gz"])
    assert list(as_names(found)) == ["b"]
    (doubt,) = found.doubts
    assert doubt.case == "a"
    assert [path.name for path in doubt.images] == ["a.nii.gz", "a_img.nrrd"]
    assert doubt.reason == "2 images have this id; say which with --pairs pairs.csv"
    assert found.missing_image == found.missing_reference == {}


def test_two_channels_of_one_case_are_a_doubt_not_a_choice(tmp_path: Path) -> None:
    found = paired(tmp_path, ["a_0000.nii.gz", "a_0001.nii.gz"], ["a.nii.gz"])
    assert [doubt.case for doubt in found.doubts] == ["a"]
    assert found.matches == ()


def test_one_folder_may_hold_both(tmp_path: Path) -> None:
    both = folder_of(tmp_path, ["a_image.nrrd", "a_label.nrrd", "b.nrrd", "b_seg.nrrd", "c.nrrd"])
    found = pair(both, both)
    assert as_names(found) == {
        "a": ("a_image.nrrd", "a_label.nrrd"),
        "b": ("b.nrrd", "b_seg.nrrd"),
    }
    assert list(found.missing_reference) == ["c"]


def test_a_mask_beside_its_image_is_not_a_second_image(tmp_path: Path) -> None:
    found = paired(tmp_path, ["a.nii.gz", "a_mask.nii.gz"], ["a_mask.nii.gz"])
    assert as_names(found) == {"a": ("a.nii.gz", "a_mask.nii.gz")}


def test_the_table_tells_matches_misses_and_doubts(tmp_path: Path) -> None:
    found = paired(
        tmp_path,
        ["a.nii", "b-1.nii", "d.nii", "d_img.nii"],
        ["a.nii", "B_1.nii", "c.nii", "d.nii"],
    )
    assert [(line.state, line.case, line.image, line.reference) for line in found.table()] == [
        ("match", "a", "a.nii", "a.nii"),
        ("no reference", "b-1", "b-1.nii", None),
        ("no image", "B_1", None, "B_1.nii"),
        ("no image", "c", None, "c.nii"),
        ("doubt", "d", "d.nii, d_img.nii", "d.nii"),
    ]
    assert found.table()[1].note == "spelt otherwise: B_1? say so with --pairs pairs.csv"
    assert found.table()[3].note == ""


@settings(max_examples=30)
@given(
    images=st.sets(st.integers(0, 120), min_size=1, max_size=12),
    masks=st.sets(st.integers(0, 120), min_size=1, max_size=12),
)
def test_only_equal_numbers_are_paired(
    tmp_path_factory: pytest.TempPathFactory, images: set[int], masks: set[int]
) -> None:
    found = paired(
        tmp_path_factory.mktemp("numbers"),
        [f"case_{n}_image.nii.gz" for n in images],
        [f"case_{n}_seg.nii.gz" for n in masks],
    )
    assert [m.case for m in found.matches] == [f"case_{n}" for n in sorted(images & masks)]
    assert list(found.missing_reference) == [f"case_{n}" for n in sorted(images - masks)]
    assert list(found.missing_image) == [f"case_{n}" for n in sorted(masks - images)]


def test_files_of_one_name_in_folders_of_their_own(tmp_path: Path) -> None:
    names = ["p7/t1.nii.gz", "p8/t1.nii.gz", "p10/t1.nii.gz"]
    found = paired(tmp_path, names, [*names[:2], "p9/t1.nii.gz"])
    assert [m.case for m in found.matches] == ["p7/t1", "p8/t1"]
    assert [m.image.parent.name for m in found.matches] == ["p7", "p8"]
    assert all(m.image.parent.name == m.reference.parent.name for m in found.matches)
    assert list(found.missing_reference) == ["p10/t1"]
    assert list(found.missing_image) == ["p9/t1"]


@pytest.mark.parametrize(("images", "masks"), [("", "masks"), ("images", "")])
def test_one_folder_may_lie_in_the_other(tmp_path: Path, images: str, masks: str) -> None:
    for folder in (tmp_path / images, tmp_path / masks):
        folder_of(folder, ["case_1.nii", "case_10.nii"])
    found = pair(tmp_path / images, tmp_path / masks)
    assert [m.case for m in found.matches] == ["case_1", "case_10"]
    assert {m.image.parent for m in found.matches} == {tmp_path / images}
    assert {m.reference.parent for m in found.matches} == {tmp_path / masks}
    assert not found.doubts


def test_a_name_is_one_name_however_its_accents_are_kept(tmp_path: Path) -> None:
    found = paired(tmp_path, ["Zo\u00eb_1.nii", "\u75c5\u4f8b_2.nii"], ["Zoe\u0308_1_seg.nii"])
    assert [m.case for m in found.matches] == ["Zo\u00eb_1"]
    assert list(found.missing_reference) == ["\u75c5\u4f8b_2"]


def test_folders_as_kits_has_them(tmp_path: Path) -> None:
    names = [f"case_0000{n}/{kind}.nii.gz" for n in (0, 1) for kind in ("imaging", "segmentation")]
    folder = folder_of(tmp_path / "kits", names)
    assert as_names(pair(folder, folder)) == {
        f"case_0000{n}": ("imaging.nii.gz", "segmentation.nii.gz") for n in (0, 1)
    }


def test_letters_of_another_size_are_another_name_and_said(tmp_path: Path) -> None:
    found = paired(tmp_path, ["Case_1.nii", "b.nii"], ["case_1.nii", "b.nii"])
    assert [m.case for m in found.matches] == ["b"]
    assert "spelt otherwise: case_1?" in found.table()[1].note


def test_a_scan_may_be_a_link(tmp_path: Path) -> None:
    folder_of(tmp_path / "store", ["0001.nii", "0002.nii"])
    for kind, target in (("images", "0001.nii"), ("masks", "0002.nii")):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "case_1.nii").symlink_to(tmp_path / "store" / target)
    (tmp_path / "images" / "case_2.nii").symlink_to(tmp_path / "gone.nii")
    found = pair(tmp_path / "images", tmp_path / "masks")
    assert as_names(found) == {"case_1": ("case_1.nii", "case_1.nii")}
    assert not found.missing_reference


def test_a_copy_of_the_mask_beside_the_image_is_not_paired_with_the_mask(tmp_path: Path) -> None:
    found = paired(tmp_path, ["a_seg.nii", "a.nii"], ["a_seg.nii"])
    assert as_names(found) == {"a": ("a.nii", "a_seg.nii")}


def test_hidden_files_and_other_files_are_no_scans(tmp_path: Path) -> None:
    folder = folder_of(
        tmp_path / "f", ["a.nii", "._a.nii", ".b.nii", "dataset.json", "c/d/e.nii", "c/g.nii"]
    )
    assert [path.name for path in scans_in(folder)] == ["a.nii", "g.nii"]


def test_a_folder_of_dicom_slices_is_one_case(tmp_path: Path) -> None:
    for case in ("p1", "p2"):
        folder = tmp_path / "images" / case
        folder.mkdir(parents=True)
        for place in range(3):
            (folder / f"IM{place}").write_bytes(bytes(128) + b"DICM")
    found = pair(tmp_path / "images", folder_of(tmp_path / "masks", ["p1_seg.nii", "p2.nii"]))
    assert as_names(found) == {"p1": ("p1", "p1_seg.nii"), "p2": ("p2", "p2.nii")}


def test_a_folder_of_slices_may_hold_other_files_too(tmp_path: Path) -> None:
    others = ["seg.nii.gz", "notes.txt", "._1.dcm", "DICOMDIR"]
    folder = folder_of(tmp_path / "f", [f"p{at}/{name}" for at in (1, 2) for name in others])
    for place in range(4):
        slices = folder / f"p{place // 2 + 1}" / f"{place}.dcm"
        slices.write_bytes(bytes(128) + b"DICM")
        (folder / f"p{place // 2 + 1}" / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
    found = pair(folder, folder)
    assert as_names(found) == {"p1": ("p1", "seg.nii.gz"), "p2": ("p2", "seg.nii.gz")}
    assert not found.missing_reference
    assert not found.missing_image
    only = folder_of(tmp_path / "root", ["d/DICOMDIR"])
    (only / "d" / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
    assert scans_in(only) == []


def test_folders_without_scans_are_refused(tmp_path: Path) -> None:
    full, empty = folder_of(tmp_path / "full", ["a.nii"]), folder_of(tmp_path / "e", ["a.txt"])
    with pytest.raises(ScanError, match=r"has no image: no file ends in \.nii\.gz"):
        pair(empty, full)
    with pytest.raises(ScanError, match=r"has no reference: no file ends in .*--pairs pairs\.csv"):
        pair(full, empty)
    with pytest.raises(ScanError, match="with one of label, labels, seg"):
        pair(full, full)
    with pytest.raises(ScanError, match="none does not exist; give a folder of scans or of masks"):
        pair(tmp_path / "none", full)
    with pytest.raises(ScanError, match=r"a\.nii is a file; give a folder .* --pairs pairs\.csv"):
        pair(full, full / "a.nii")


@pytest.mark.parametrize(
    "predicted",
    ["a.nii.gz", "a_seg.nii.gz", "a/a_seg.nii.gz", "a_image/a_image_seg.nii.gz", "a_image.nii.gz"],
)
def test_finished_masks_are_found_by_case(tmp_path: Path, predicted: str) -> None:
    match = Match(case="a", image=Path("x/a_image.nii.gz"), reference=Path("y/a.nii.gz"))
    other = Match(case="a1", image=Path("x/a1_image.nii.gz"), reference=Path("y/a1.nii.gz"))
    folder = folder_of(tmp_path / "p", [predicted, "zz.nii.gz", "plans.json"])
    found = predictions_of(folder, [match, other])
    assert [(m.case, m.reference.name) for m in found.matches] == [("a", Path(predicted).name)]
    assert list(found.missing_reference) == ["a1"]
    assert list(found.missing_image) == ["zz"]


def test_finished_masks_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    matches = [
        Match(case=f"p{n}/t1", image=Path(f"x/p{n}/t1.nii"), reference=Path(f"y/p{n}/t1.nii"))
        for n in (7, 8)
    ]
    folder = folder_of(tmp_path / "p", ["p7/t1_seg.nii", "p8/t1.nii", "t1.nii"])
    found = predictions_of(folder, matches)
    assert [(m.case, m.reference.parent.name) for m in found.matches] == [
        ("p7/t1", "p7"),
        ("p8/t1", "p8"),
    ]
    assert list(found.missing_image) == ["t1"]


def test_two_finished_masks_of_one_case_are_a_doubt(tmp_path: Path) -> None:
    match = Match(case="a", image=Path("x/a_0000.nii.gz"), reference=Path("y/a.nii.gz"))
    found = predictions_of(folder_of(tmp_path, ["a.nii.gz", "a_seg.nii.gz"]), [match])
    assert [doubt.case for doubt in found.doubts] == ["a"]
    assert found.doubts[0].reason.startswith("2 references have this id")
    with pytest.raises(ScanError, match="holds no predicted mask"):
        predictions_of(folder_of(tmp_path / "empty", ["a.txt"]), [match])


def test_pairs_from_a_csv_are_relative_to_it(tmp_path: Path) -> None:
    folder_of(tmp_path, ["i/one.nii", "m/first.nii", "i/two.nii", "m/second.nii"])
    (tmp_path / "pairs.csv").write_text(
        "\ufeffCase, Image,Reference\n"
        "case_10,i/two.nii,m/second.nii\ncase_2,i/one.nii,m/first.nii\n",
        encoding="utf-8",
    )
    found = read_pairs(tmp_path / "pairs.csv")
    assert as_names(found) == {
        "case_2": ("one.nii", "first.nii"),
        "case_10": ("two.nii", "second.nii"),
    }
    assert found.matches[0].image.is_file()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no line; write case,image,reference"),
        ("case,image,reference\n", "has no line"),
        (
            "id,image,mask\na,i.nii,m.nii\n",
            "no column case and no reference: its first line is 'id,image,mask'; write there: case",
        ),
        ("case;image;reference\na;i;m\n", "its first line is 'case;image;reference'; write there"),
        (
            "a,i.nii,m.nii\n",
            "no column case and .*: its first line is 'a,i.nii,m.nii'; write there",
        ),
        (f'case,image,reference\na,i.nii,"{"m" * 300}\n', "line 2: .*mmm does not exist"),
        ("case,image,reference\na,i.nii,./i.nii\n", "line 2 names .*i.nii as image and as refere"),
        ("case,image,reference\ne\u0301,i.nii,m.nii\n\u00e9,i.nii,m.nii\n", "line 3 names case"),
        ("case,image,reference\na,i.nii,\n", "line 2 has no reference"),
        ("case,image,reference\n\n\na,i.nii,\n", "line 4 has no reference"),
        ("case,image,reference\na,i.nii,gone.nii\n", "line 2: .*gone.nii does not exist"),
        ("case,image,reference\na,i.nii,m.nii\na,i.nii,m.nii\n", "line 3 names case a a second"),
    ],
)
def test_a_wrong_csv_is_refused_by_line(tmp_path: Path, text: str, message: str) -> None:
    folder_of(tmp_path, ["i.nii", "m.nii"])
    (tmp_path / "pairs.csv").write_text(text, encoding="utf-8")
    with pytest.raises(ScanError, match=message):
        read_pairs(tmp_path / "pairs.csv")


def test_a_csv_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    lost, bad = tmp_path / "none.csv", tmp_path / "bad.csv"
    bad.write_bytes(b"\xff\xfe\x00case")
    for path, why in (
        (lost, "No such file or directory"),
        (tmp_path, "Is a directory"),
        (bad, "it is no text in UTF-8"),
    ):
        with pytest.raises(ScanError) as raised:
            read_pairs(path)
        assert str(raised.value) == f"cannot read {path}: {why}"
    bad.write_text(f"case,image,reference\n{'x' * 200_000},b,c\n", encoding="utf-8")
    with pytest.raises(ScanError, match=r"cannot read .*bad.csv: field larger than field limit"):
        read_pairs(bad)


def test_the_hash_is_of_contents(tmp_path: Path) -> None:
    folder_of(tmp_path, ["a.nii", "b.nii"])
    one = Match(case="a", image=tmp_path / "a.nii", reference=tmp_path / "b.nii")
    swapped = Match(case="a", image=tmp_path / "b.nii", reference=tmp_path / "a.nii")
    first = content_hash(one)
    assert len(first) == 64
    assert first != content_hash(swapped)
    (tmp_path / "c.nii").write_bytes((tmp_path / "a.nii").read_bytes())
    assert content_hash(Match(case="x", image=tmp_path / "c.nii", reference=one.reference)) == first
    (tmp_path / "b.nii").write_bytes(b"b.niI")
    assert content_hash(one) != first


def test_the_hash_covers_slices_and_raw_data(tmp_path: Path) -> None:
    folder_of(tmp_path, ["ct/1.dcm", "ct/2.dcm", "a.raw"])
    (tmp_path / "a.mhd").write_text(
        "ObjectType = Image\nElementDataFile = a.raw\n", encoding="utf-8"
    )
    match = Match(case="a", image=tmp_path / "ct", reference=tmp_path / "a.mhd")
    seen = {content_hash(match)}
    for name in ("ct/2.dcm", "a.raw"):
        (tmp_path / name).write_bytes(b"changed")
        seen.add(content_hash(match))
    assert len(seen) == 3


@pytest.mark.parametrize("told", ["LIST\ns0.raw\ns1.raw\n", "s%d.raw 0 1 1\n", "s%d.raw 0 1\n"])
def test_the_hash_covers_every_file_of_raw_data(tmp_path: Path, told: str) -> None:
    folder_of(tmp_path, ["s0.raw", "s1.raw"])
    (tmp_path / "a.mhd").write_text(
        f"ObjectType = Image\nElementDataFile = {told}", encoding="utf-8"
    )
    before = file_hash(tmp_path / "a.mhd")
    (tmp_path / "s1.raw").write_bytes(b"changed")
    assert file_hash(tmp_path / "a.mhd") != before


def test_ids_of_names() -> None:
    assert case_id(Path("x/case_7/seg.nii.gz"), "reference") == "case_7"
    assert case_id(Path("x/case_7_image_seg.nii.gz"), "reference") == "case_7"
    assert case_id(Path("x/label.nii.gz"), "image") == "x"
    assert sorted(["a10", "a2", "b1", "a", "10", "9"], key=counting) == [
        *("9", "10", "a", "a2", "a10", "b1"),
    ]


def test_real_scans_are_paired(shared_data: Path) -> None:
    folder = shared_data / "scans" / "nrrd"
    found = pair(folder, folder)
    assert list(as_names(found)) == ["brain1", "brain2", "breast1"]
    assert all(line.state == "match" for line in found.table())
