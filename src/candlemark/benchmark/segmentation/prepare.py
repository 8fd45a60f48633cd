"""From what a config says of scans to cases: paired, compared, hashed and split.

    prepared = prepare(config, Path("benchmarks"), learns=False)
    prepared.test[0].id, prepared.classes           # "case_2", {1: "lesion"}

Everything that would fail every trial is found out here, once: a folder without scans, a mask on
another grid, a value that is no class, a split that names a case twice. A case that has no
partner is told, never guessed, and is no part of the comparison.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from candlemark import progress
from candlemark.benchmark.segmentation.config import ScansConfig, SegmentationConfig
from candlemark.benchmark.segmentation.folds import Fold, deal, declared
from candlemark.benchmark.segmentation.scan_cases import (
    References,
    ScanCase,
    labels_in,
    voxels_sha256,
)
from candlemark.errors import ConfigError, ScanError
from candlemark.records import content_id
from candlemark.scans.geometry import compare_geometry, require_overlap, require_same_grid
from candlemark.scans.masks import LabelMap, discover_labels, label_map, open_mask
from candlemark.scans.packed import require_readable
from candlemark.scans.pairs import Match, Pairing, content_hash, pair, read_pairs, stamp
from candlemark.scans.phantoms import make_phantoms
from candlemark.scans.reading import open_source

MANY_CLASSES = 50
"""Classes nobody named above which masks may be scans of eight bits; told, not refused."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prepared:
    """Cases that a study can run on.

    name: of the scans, for tables
    test: the cases that every row is tested on
    train: those that some head learns from, of which `folds` says which; empty unless one does
    content_hash: of the test cases and what their values mean
    train_hash: the same of the training cases, and of who learns from which
    pairing: what was matched, missed and doubted
    """

    config: SegmentationConfig
    name: str
    references: References
    train: tuple[ScanCase, ...]
    test: tuple[ScanCase, ...]
    folds: tuple[Fold, ...]
    content_hash: str
    train_hash: str
    pairing: Pairing

    @property
    def classes(self) -> Mapping[int, str]:
        """Name by label, background left out."""
        return self.references.labels.names

    @property
    def matches(self) -> tuple[Match, ...]:
        """The test cases as pairs of files."""
        tested = {case.id for case in self.test}
        return tuple(match for match in self.pairing.matches if match.case in tested)


def find_cases(config: ScansConfig, folder: Path, *, max_cases: int = 0) -> Pairing:
    """Pair the scans that a config names; phantoms are made below `folder` first.

    Raises ScanError: a folder without scans, a CSV that cannot be read, or not one match.
    """
    if config.pairs is not None:
        found, where = read_pairs(config.pairs), str(config.pairs)
    elif config.phantoms:
        found, where = _phantoms(config, folder), "the phantoms"
    elif config.image_dir is not None and config.seg_dir is not None:
        where = f"{config.image_dir} and {config.seg_dir}"
        found = pair(config.image_dir, config.seg_dir)
    else:
        raise ConfigError("dataset: give image_dir and seg_dir, or pairs, or phantoms")
    if not found.matches:
        alone = list(found.missing_reference.values())
        slices = len(alone) > 1 and all(path.suffix.lower() == ".dcm" for path in alone)
        raise ScanError(
            f"no image of {where} has a reference of its own: "
            f"{len(found.missing_reference)} of the images and {len(found.missing_image)} of the "
            f"references stand alone, ids in doubt: {len(found.doubts)}; name the files alike, or "
            "say which belong together with --pairs pairs.csv (case,image,reference)"
            + ("; slices of one scan belong in a folder named by its case" if slices else "")
        )
    if not max_cases or max_cases >= len(found.matches):
        return found
    return replace(
        found,
        matches=found.matches[:max_cases],
        cut=tuple(match.case for match in found.matches[max_cases:]),
    )


def prepare(
    config: SegmentationConfig, folder: Path, *, learns: bool, pairing: Pairing | None = None
) -> Prepared:
    """Cases, checked and split.

    folder: where phantoms are made
    learns: whether a protocol of the study trains on cases
    pairing: what `find_cases` found, where it has been asked already

    Raises ScanError: as `find_cases`, grids that differ, values that are no class. ConfigError:
    a split that names a case twice or none that is there, or too few cases to learn from.
    """
    data = config.dataset
    found = pairing or find_cases(data, folder, max_cases=config.benchmark.max_cases)
    _compare_grids(found.matches, data)
    labels = _labels(found.matches, data)
    references = References(labels=labels, geometry=data.geometry)
    cases = _hashed(found.matches, images=learns)
    test, folds = split_cases(cases, data, learns=learns, cut=found.cut)
    learnt = {one for fold in folds for one in fold.train}
    train = tuple(case for case in cases if case.id in learnt)
    return Prepared(
        config=config,
        name=_name(data),
        references=references,
        train=train,
        test=test,
        folds=folds,
        content_hash=_hash(test, references),
        train_hash=content_id(
            {"cases": _hash(train, references), "folds": [fold.to_dict() for fold in folds]}
        ),
        pairing=found,
    )


def split_cases(
    cases: Sequence[ScanCase], data: ScansConfig, *, learns: bool, cut: Collection[str] = ()
) -> tuple[tuple[ScanCase, ...], tuple[Fold, ...]]:
    """The cases that every row is tested on, and what each head of one that learns may see.

    A declared split holds for every row, so that all are tested on the same cases; without one
    every case is tested.

    cut: ids of cases that `max_cases` left out, of which a split may not speak
    """
    if data.splits is not None:
        fold = declared(cases, data.splits, learns=learns, cut=cut)
        by_id = {case.id: case for case in cases}
        return tuple(by_id[one] for one in fold.test), (fold,) if learns else ()
    return tuple(cases), deal(cases, folds=data.folds, seed=data.seed) if learns else ()


def _phantoms(data: ScansConfig, folder: Path) -> Pairing:
    place = folder / "phantoms" / f"{data.phantoms}-{data.seed}"
    return make_phantoms(place, data.phantoms, seed=data.seed)


def _compare_grids(matches: Sequence[Match], data: ScansConfig) -> None:
    """Headers alone; a difference in shape cannot be told from a wrong partner."""
    with progress.track("comparing grids", total=len(matches), unit="cases") as bar:
        for match in matches:
            image = open_source(match.image).geometry
            reference = open_source(match.reference, indexed=True).geometry
            if data.geometry == "refuse" or not (image.placed and reference.placed):
                require_same_grid(image, reference, case=match.case)
            elif different := compare_geometry(image, reference):
                require_overlap(reference, image, case=match.case)
                progress.note(
                    f"case {match.case}: the reference is put on the image's grid "
                    f"({'; '.join(map(str, different))})"
                )
            bar.advance(1, match.case)


def _labels(matches: Sequence[Match], data: ScansConfig) -> LabelMap:
    """What the values of the references mean; each reference is read once."""
    with progress.track("finding labels", total=len(matches), unit="cases") as bar:

        def told() -> Iterator[Match]:
            for match in matches:
                yield match
                bar.advance(1, match.case)

        if not data.binary and data.classes is None:
            return _not_too_many(discover_labels(match.reference for match in told()))
        labels = label_map(data.classes or {}, binary=data.binary)
        _require_known(told(), labels)
    return labels


def _not_too_many(labels: LabelMap) -> LabelMap:
    if len(labels.names) > MANY_CLASSES:
        progress.warning(
            f"the references have {len(labels.names)} values beside 0, and each is taken for a "
            "class: are they scans? Then give the folder of masks as --seg-dir, or name what "
            "counts with --classes"
        )
    return labels


def _require_known(matches: Iterable[Match], labels: LabelMap) -> None:
    """Refuse references with values that are no class; tell classes that none of them has."""
    found: set[int] = set()
    for match in matches:
        found |= labels_in(open_mask(match.reference, labels).labels)
    absent = [name for label, name in labels.names.items() if label not in found]
    if len(absent) == len(labels.names):
        raise ScanError(
            f"no reference has {' or '.join(absent)}: every one is empty; there is nothing to find"
        )
    if absent:
        progress.warning(
            f"no reference has {', '.join(absent)}: of such a class a table only tells who leaves "
            "it out as well"
        )


def _hashed(matches: Sequence[Match], *, images: bool) -> list[ScanCase]:
    cases = []
    with progress.track("hashing scans", total=len(matches), unit="cases") as bar:
        for match in matches:
            # The stamp first: what changes while it is hashed is noticed when it is asked for.
            known = Match(
                case=match.case,
                image=match.image.absolute(),
                reference=match.reference.absolute(),
            )
            stamped = stamp(known)
            # The reference was read through for its labels, the image is so here, once.
            image_sha256 = voxels_sha256(known.image) if images else ""
            if not images:
                require_readable(known.image)
            cases.append(
                ScanCase(
                    id=match.case,
                    image=known.image,
                    reference=known.reference,
                    sha256=content_hash(known),
                    image_sha256=image_sha256,
                    stamp=stamped,
                )
            )
            bar.advance(1, match.case)
    return cases


def _hash(cases: Sequence[ScanCase], references: References) -> str:
    labels = references.labels
    return content_id(
        {
            "cases": sorted([case.id, case.sha256] for case in cases),
            "labels": {str(value): label for value, label in labels.labels.items()},
            "binary": labels.binary,
            "geometry": references.geometry,
        }
    )


def _name(data: ScansConfig) -> str:
    if data.phantoms:
        return f"phantoms {data.phantoms}, seed {data.seed}"
    if data.pairs is not None:
        return data.pairs.stem
    folder = data.image_dir or Path()
    if folder.name in {"", ".."}:  # the folder one is in has a name all the same
        folder = folder.resolve()
    generic = {"images", "imagests", "imagestr", "image", "img", "scans"}
    above = folder.resolve().parent.name if folder.name.lower() in generic else ""
    return above or folder.name
