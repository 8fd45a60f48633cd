"""Which reference belongs to which image: by exact case id, never by likeness.

    found = pair(Path("images"), Path("masks"))
    for line in found.table(): ...                  # match, miss and doubt, one line each
    for match in found.matches: match.case, match.image, match.reference

A case id is the name of a file less its ending and the words below, so `case_1` is never part of
`case_10`. Two files with one id are a doubt: neither is taken until a CSV says which is meant.
"""

from __future__ import annotations

import csv
import hashlib
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from candlemark.errors import ScanError
from candlemark.scans.dicom import holds_dicom
from candlemark.scans.reading import ENDINGS, ending

IMAGE_WORDS = ("image", "img", "images", "imaging", "volume", "vol", "scan")
"""Words that tell an image: `case_7_image`, `img_7`, `volume-7`."""

MASK_WORDS = (
    *("label", "labels", "seg", "segmentation", "mask", "masks", "gt", "groundtruth"),
    *("pred", "prediction", "trans"),
)
"""Words that tell a mask; `trans` is what MONAI bundles write where nothing else is said."""

CHANNEL = re.compile(r"^(?P<case>.+)_(?P<channel>\d{4})$")
"""The channel nnU-Net writes behind the case of an image (`case_7_0000`), and not of a mask."""

_SEPARATORS = "_-. "

COLUMNS = ("case", "image", "reference")
"""Of a CSV of pairs."""

MOST_TOLD = 200
"""Characters of a file's own words that a message repeats."""

MOST_SLICES = 2**16
"""Files that a header can count off; one that is damaged may count to anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """One case: an image and its reference; either may be a folder of DICOM slices."""

    case: str
    image: Path
    reference: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """Files that share one case id, or nearly; none of them is taken."""

    case: str
    images: tuple[Path, ...]
    references: tuple[Path, ...]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PairLine:
    """A line of the printed table; a file that is missing is None."""

    case: str
    state: Literal["match", "no reference", "no image", "doubt"]
    image: str | None
    reference: str | None
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairing:
    """What was found, sorted by case id as people count (`case_2` before `case_10`).

    missing_reference: image by case; missing_image: reference by case
    cut: ids of cases that match and are more than were asked for
    """

    matches: tuple[Match, ...]
    missing_reference: Mapping[str, Path]
    missing_image: Mapping[str, Path]
    doubts: tuple[Doubt, ...]
    cut: tuple[str, ...] = ()

    def table(self) -> list[PairLine]:
        """Matches, then misses, then doubts."""
        lines = [
            PairLine(case=m.case, state="match", image=m.image.name, reference=m.reference.name)
            for m in self.matches
        ]
        lines += [
            PairLine(
                case=case,
                state="no reference",
                image=path.name,
                reference=None,
                note=_alike(case, self.missing_image),
            )
            for case, path in self.missing_reference.items()
        ]
        lines += [
            PairLine(
                case=case,
                state="no image",
                image=None,
                reference=path.name,
                note=_alike(case, self.missing_reference),
            )
            for case, path in self.missing_image.items()
        ]
        return lines + [
            PairLine(
                case=doubt.case,
                state="doubt",
                image=", ".join(path.name for path in doubt.images) or None,
                reference=", ".join(path.name for path in doubt.references) or None,
                note=doubt.reason,
            )
            for doubt in self.doubts
        ]


def pair(image_dir: Path, seg_dir: Path) -> Pairing:
    """Pair the scans of two folders, which may be one. Raises ScanError for a folder without any.

    In each folder a scan is a file with a known ending, or a folder of DICOM slices; folders are
    looked into one level deep. Where both folders are one, names with a mask's word are
    references and all others images; where they are two, a name with a word of the other kind
    gives way to one of its own kind with the same id, and a name that both have is the id as it
    stands. Where one folder lies in the other (`scans`, `scans/masks`), each has its own. Files
    of one name in a folder each (`p7/t1.nii.gz`, `p8/t1.nii.gz`) are known by the folder as well.
    """
    both = image_dir.resolve() == seg_dir.resolve()
    images, references = _outside(image_dir, seg_dir), _outside(seg_dir, image_dir)
    if both:
        images = [path for path in images if not _has_word(_stem(path), MASK_WORDS)]
        references = [path for path in references if _has_word(_stem(path), MASK_WORDS)]
    for folder, found, kind in ((image_dir, images, "image"), (seg_dir, references, "reference")):
        if not found:
            apart = f" with one of {', '.join(MASK_WORDS)} in its name" if both else ""
            apart = apart if kind == "reference" else ""
            raise ScanError(
                f"{folder} has no {kind}: no file{apart} ends in {', '.join(ENDINGS)}, and no "
                "folder in it holds DICOM slices (none is looked into deeper than that); give "
                "the folders, or --pairs pairs.csv"
            )
    image_ids = _cases_of_images(images, references)
    reference_ids = {path: case_id(path, "reference") for path in references}
    if not both:
        _keep_whole(image_ids, reference_ids)
    here = _apart(_own_kind(_by_case(images, image_ids), MASK_WORDS), image_dir)
    there = _apart(_own_kind(_by_case(references, reference_ids), IMAGE_WORDS), seg_dir)
    return _join(here, there)


def _outside(folder: Path, other: Path) -> list[Path]:
    """The scans of a folder less those of the other, where that is one of its own."""
    nested = folder.resolve() in other.resolve().parents
    found = scans_in(folder)
    return [one for one in found if one.parent.resolve() != other.resolve()] if nested else found


def _keep_whole(image_ids: dict[Path, str], reference_ids: dict[Path, str]) -> None:
    """Where an image and a reference have one name, that is the id: `scan_2`, not `2`."""
    words = {*IMAGE_WORDS, *MASK_WORDS}
    names = {_stem(path) for path in image_ids} & {_stem(path) for path in reference_ids}
    whole = {
        name for name in names if name.lower() not in words and not _has_word(name, MASK_WORDS)
    }
    for ids in (image_ids, reference_ids):
        ids.update({path: _stem(path) for path in ids if _stem(path) in whole})


def _apart(found: Mapping[str, list[Path]], root: Path) -> dict[str, list[Path]]:
    """Files with one id that lie in folders of their own below the root, by both names."""
    result: dict[str, list[Path]] = {}
    for case, paths in found.items():
        folders = {path.parent for path in paths}
        if len(paths) > 1 and root not in folders and len(folders) == len(paths):
            result |= {f"{path.parent.name}/{case}": [path] for path in paths}
        else:
            result[case] = paths
    return result


def _own_kind(found: Mapping[str, list[Path]], other: Sequence[str]) -> dict[str, list[Path]]:
    """Of files with one id, those without a word of the other kind, where there are any."""
    return {
        case: [path for path in paths if not _has_word(_stem(path), other)] or paths
        for case, paths in found.items()
    }


def _join(images: Mapping[str, list[Path]], references: Mapping[str, list[Path]]) -> Pairing:
    matches, doubts = [], []
    for case in sorted({*images, *references}, key=counting):
        here, there = images.get(case, []), references.get(case, [])
        if len(here) > 1 or len(there) > 1:
            several = "images" if len(here) > 1 else "references"
            doubts.append(
                Doubt(
                    case=case,
                    images=tuple(here),
                    references=tuple(there),
                    reason=f"{max(len(here), len(there))} {several} have this id; "
                    "say which with --pairs pairs.csv",
                )
            )
        elif here and there:
            matches.append(Match(case=case, image=here[0], reference=there[0]))
    doubtful = {doubt.case for doubt in doubts}
    return Pairing(
        matches=tuple(matches),
        missing_reference=_alone(images, references, doubtful),
        missing_image=_alone(references, images, doubtful),
        doubts=tuple(doubts),
    )


def _alone(
    own: Mapping[str, list[Path]], other: Mapping[str, list[Path]], doubtful: set[str]
) -> dict[str, Path]:
    alone = [case for case in own if case not in other and case not in doubtful]
    return {case: own[case][0] for case in sorted(alone, key=counting)}


def predictions_of(folder: Path, matches: Sequence[Match]) -> Pairing:
    """Finished masks of a folder by the cases of `matches`: nnU-Net, MONAI bundles, or plain.

    The `reference` of each match is the prediction. A prediction is named by the case, or by the
    whole name of the image (`case_7_image_seg`), each with or without a mask's word. Masks of
    other cases are `missing_image`; they are no fault.
    """
    found = scans_in(folder)
    if not found:
        raise ScanError(
            f"{folder} holds no predicted mask; masks end in {', '.join(ENDINGS)}, each in the "
            "folder itself or in one of its own"
        )
    images = {match.case: [match.image] for match in matches}
    stems = [_stem(match.image) for match in matches]
    by_name = {
        stem: m.case for stem, m in zip(stems, matches, strict=True) if stems.count(stem) == 1
    }
    cases = {}
    for path in found:
        plain = _without(_stem(path), MASK_WORDS)
        names = [_stem(path), plain, case_id(path, "reference")]
        ids = [by_name.get(name, name) for name in names]
        ids = [f"{path.parent.name}/{name}" for name in names] + ids
        cases[path] = next((one for one in ids if one in images), ids[-1])
    return _join(images, _by_case(found, cases))


def read_pairs(path: Path) -> Pairing:
    """Matches from a CSV with the columns case, image, reference; paths relative to the CSV.

    Raises ScanError naming the line for a missing column, file or case, or one named twice.
    """
    matches: dict[str, Match] = {}
    for number, row in _lines_of(path):
        cells = {name: (row.get(name) or "").strip() for name in COLUMNS}
        cells["case"] = unicodedata.normalize("NFC", cells["case"])
        empty = [name for name, cell in cells.items() if not cell]
        if empty:
            raise ScanError(
                f"{path} line {number} has no {' and no '.join(empty)}; "
                "the first line is: case,image,reference"
            )
        if cells["case"] in matches:
            raise ScanError(f"{path} line {number} names case {cells['case']} a second time")
        image, reference = (path.parent / cells[name] for name in ("image", "reference"))
        for one in (image, reference):
            if not _exists(one):
                raise ScanError(f"{path} line {number}: {str(one)[:MOST_TOLD]} does not exist")
        if image.resolve() == reference.resolve():
            raise ScanError(
                f"{path} line {number} names {image} as image and as reference; a model would "
                "be held against the scan itself"
            )
        matches[cells["case"]] = Match(case=cells["case"], image=image, reference=reference)
    if not matches:
        raise ScanError(f"{path} has no line; write case,image,reference and a line for each case")
    return Pairing(
        matches=tuple(matches[case] for case in sorted(matches, key=counting)),
        missing_reference={},
        missing_image={},
        doubts=(),
    )


def _lines_of(path: Path) -> list[tuple[int, dict[str, str]]]:
    """Number and cells of each line below the first, which names the columns in any case."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = csv.DictReader(file)
            head = list(lines.fieldnames or ())
            lines.fieldnames = [name.strip().lower() for name in head]
            rows = [(lines.line_num, row) for row in lines]
    except OSError as error:
        raise ScanError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ScanError(f"cannot read {path}: it is no text in UTF-8") from error
    except csv.Error as error:
        raise ScanError(f"cannot read {path}: {error}") from error
    absent = [name for name in COLUMNS if name not in lines.fieldnames]
    if head and absent:
        raise ScanError(
            f"{path} has no column {' and no '.join(absent)}: its first line is "
            f"{','.join(head)[:MOST_TOLD]!r}; write there: {','.join(COLUMNS)}"
        )
    return rows


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that no disk takes, such as lines that a quote left open ran into
        return False


def scans_in(folder: Path) -> list[Path]:
    """Files and folders below `folder` that are one scan each, sorted.

    A folder of DICOM slices is one, and other files in it (a mask) are each one too; of other
    folders the files are taken, one level deep.
    """
    if not folder.is_dir():
        raise ScanError(
            f"{folder} {'is a file' if folder.exists() else 'does not exist'}; give a folder of "
            "scans or of masks, or name each file with --pairs pairs.csv (case,image,reference)"
        )
    found = []
    for one in sorted(folder.iterdir()):
        if one.name.startswith("."):
            continue
        if one.is_file() and ending(one):
            found.append(one)
        elif one.is_dir():
            inside = [
                file
                for file in sorted(one.iterdir())
                if file.is_file() and ending(file) and not file.name.startswith(".")
            ]
            if holds_dicom(one):
                found.append(one)
                inside = [file for file in inside if ending(file) != ".dcm"]
            found.extend(inside)
    return found


def case_id(path: Path, role: Literal["image", "reference"]) -> str:
    """The id in a name: without its ending, a word of its role, and below that one of the other.

    A file that is named by a word alone is known by its folder (`case_7/seg.nii.gz`).
    """
    words = (IMAGE_WORDS, MASK_WORDS) if role == "image" else (MASK_WORDS, IMAGE_WORDS)
    found = _without(_without(_stem(path), words[0]), words[1])
    return path.parent.name if found.lower() in {*IMAGE_WORDS, *MASK_WORDS} else found


def _stem(path: Path) -> str:
    """The name without its ending, an accent and its letter as one: some disks part the two."""
    name = path.name[: -len(ending(path) or "")] if ending(path) else path.name
    return unicodedata.normalize("NFC", name)


def _without(stem: str, words: Iterable[str]) -> str:
    """The name without one of the words at its end or, failing that, at its start."""
    lower = stem.lower()
    for word in sorted(words, key=len, reverse=True):
        cut = len(word) + 1
        if lower.endswith(word) and lower[-cut : -len(word)] and lower[-cut] in _SEPARATORS:
            return stem[:-cut]
    for word in sorted(words, key=len, reverse=True):
        rest = stem[len(word) :]
        if lower.startswith(word) and rest and (rest[0] in _SEPARATORS or rest.isdigit()):
            return rest.lstrip(_SEPARATORS) or stem
    return stem


def _has_word(stem: str, words: Sequence[str]) -> bool:
    return _without(stem, words) != stem or stem.lower() in words


def _by_case(paths: Sequence[Path], cases: Mapping[Path, str]) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in paths:
        found.setdefault(cases[path], []).append(path)
    return found


def _cases_of_images(images: Sequence[Path], references: Sequence[Path]) -> dict[Path, str]:
    """The id of each image; four digits behind it are a channel where only that finds its mask."""
    known = {case_id(path, "reference") for path in references}
    cases = {}
    for path in images:
        found = case_id(path, "image")
        numbered = CHANNEL.match(_stem(path))
        if found not in known and numbered is not None:
            bare = _without(numbered["case"], IMAGE_WORDS)
            found = bare if bare in known else found
        cases[path] = found
    return cases


def counting(text: str) -> list[tuple[str, int]]:
    """A key that sorts names as people count: `case_2` before `case_10`."""
    return [(word, int(part or 0)) for word, part in re.findall(r"(\D*)(\d*)", text)]


def _alike(case: str, others: Iterable[str]) -> str:
    """A hint where a missing partner may only be spelt otherwise; nothing is paired by it."""

    def plain(text: str) -> str:
        return re.sub(r"[\W_]+", "", text).lower()

    near = [other for other in others if plain(other) == plain(case)]
    return f"spelt otherwise: {near[0]}? say so with --pairs pairs.csv" if near else ""


def content_hash(match: Match) -> str:
    """SHA-256 in hex of the image and the reference; names do not count, contents do."""
    both = hashlib.sha256()
    for path in (match.image, match.reference):
        for file in files_of(path):
            one = hashlib.sha256()
            with file.open("rb") as stream:
                while part := stream.read(1 << 20):
                    one.update(part)
            both.update(one.digest())
        both.update(b"|")
    return both.hexdigest()


def stamp(match: Match) -> tuple[tuple[str, int, int], ...]:
    """Name, size and time of change of every file of a case: what differs may hold other content.

    Raises ScanError: a file is gone.
    """
    try:
        return tuple(
            (str(file), known.st_size, known.st_mtime_ns)
            for path in (match.image, match.reference)
            for file in files_of(path)
            for known in (file.stat(),)
        )
    except OSError as error:
        raise ScanError(
            f"{error.filename} of case {match.case} is gone: {error.strerror}"
        ) from error


def file_hash(path: Path) -> str:
    """SHA-256 in hex of all files of one scan or mask, a header's raw data among them."""
    hashes = []
    for file in files_of(path):
        with file.open("rb") as stream:
            hashes.append(hashlib.file_digest(stream, "sha256").hexdigest())
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def files_of(path: Path) -> list[Path]:
    """The files of a scan: the slices of a folder, a header and the raw data it names."""
    if path.is_dir():
        return sorted(file for file in path.iterdir() if file.is_file())
    if ending(path) in {".mhd", ".nhdr"}:
        beside = (path.parent / name for name in _raw_names(path.read_text(encoding="latin-1")))
        return [path, *(file for file in beside if file.is_file())]
    return [path]


def _raw_names(header: str) -> list[str]:
    """Where a header says its voxels lie: a file, `LIST` and lines of files, `s%03d.raw 1 9 1`."""
    named = re.search(
        r"(?im)^(?:ElementDataFile|data file)[ \t]*[=:][ \t]*(\S.*?)[ \t\r]*$", header
    )
    if named is None:
        return []
    if re.fullmatch(r"(?i)LIST(\s+\d+)?", named[1]):
        return [line.strip() for line in header[named.end() :].splitlines() if line.strip()]
    counted = re.fullmatch(r"([^%]*%0?\d*d[^%]*?)\s+(\d+)\s+(\d+)(?:\s+(\d+))?.*", named[1])
    if counted is None:
        return [named[1]]
    first, last, step = (int(number or 1) for number in counted.groups()[1:])
    return [counted[1] % place for place in range(first, last + 1, max(1, step))[:MOST_SLICES]]
