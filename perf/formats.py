"""The formats that people keep pictures in, written and read as each library's documentation shows.

    one = FORMATS["PNG files"]
    one.write(folder, pictures, labels)
    for images, targets in one.open(folder, labels, workers):   # one epoch, again and again
        ...

Nothing here is this package's own code: `loading` measures it against what is.
"""

from __future__ import annotations

import functools
import importlib
import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

BATCH = 256
SHARD = 1000

Picture = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]
Batches = Iterable[tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """How people keep pictures: written to a folder, and opened to be read batch by batch.

    open: (folder, labels, workers) -> batches of one epoch, again and again
    """

    library: str
    write: Callable[[Path, Iterator[Picture], Labels], None]
    open: Callable[[Path, Labels, int], Batches]


class Items(TorchDataset[tuple[torch.Tensor, int]]):
    """One picture at a time, as most datasets are written; opened where it is used."""

    def __init__(self, folder: Path, labels: Labels, start: Callable[[Path], Any]) -> None:
        self.folder, self.labels, self.start = folder, labels, start
        self.read: Callable[[int], Picture] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, number: int) -> tuple[torch.Tensor, int]:
        if self.read is None:
            self.read = self.start(self.folder)
        return torch.from_numpy(np.array(self.read(number))), int(self.labels[number])


def items(start: Callable[[Path], Callable[[int], Picture]]) -> Callable[..., Batches]:
    """Batches of a format that is read picture by picture."""

    def opened(folder: Path, labels: Labels, workers: int) -> Batches:
        return DataLoader(
            Items(folder, labels, start),
            batch_size=BATCH,
            shuffle=True,
            num_workers=workers,
            persistent_workers=workers > 0,
            generator=torch.Generator().manual_seed(0),
        )

    return opened


def encoded(picture: Picture, kind: str) -> bytes:
    """A picture as PNG or JPEG, with Pillow's own settings."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, kind)
    return buffer.getvalue()


def write_hdf5(folder: Path, pictures: Iterator[Picture], labels: Labels) -> None:
    h5py = importlib.import_module("h5py")
    with h5py.File(folder / "images.h5", "w") as file:
        images = None
        for number, picture in enumerate(pictures):
            if images is None:
                images = file.create_dataset(
                    "images",
                    (len(labels), *picture.shape),
                    "uint8",
                    chunks=(1, *picture.shape),
                    compression="gzip",
                )
            images[number] = picture
        file["labels"] = labels


def read_hdf5(folder: Path) -> Callable[[int], Picture]:
    h5py = importlib.import_module("h5py")
    images = h5py.File(folder / "images.h5")["images"]
    return lambda number: images[number]


def write_npz(folder: Path, pictures: Iterator[Picture], labels: Labels) -> None:
    for number, picture in enumerate(pictures):
        np.savez_compressed(folder / f"{number:08d}.npz", image=picture, label=labels[number])


def read_npz(folder: Path) -> Callable[[int], Picture]:
    def read(number: int) -> Picture:
        with np.load(folder / f"{number:08d}.npz") as file:
            picture: Picture = file["image"]
            return picture

    return read


def write_zarr(folder: Path, pictures: Iterator[Picture], labels: Labels) -> None:
    zarr = importlib.import_module("zarr")
    first = next(pictures)
    images = zarr.create_array(
        store=str(folder / "images.zarr"),
        shape=(len(labels), *first.shape),
        chunks=(1, *first.shape),
        dtype="uint8",
    )
    images[0] = first
    for number, picture in enumerate(pictures, start=1):
        images[number] = picture


def read_zarr(folder: Path) -> Callable[[int], Picture]:
    images = importlib.import_module("zarr").open_array(str(folder / "images.zarr"), mode="r")
    return lambda number: np.asarray(images[number])


def write_files(kind: str, folder: Path, pictures: Iterator[Picture], labels: Labels) -> None:
    del labels
    for number, picture in enumerate(pictures):
        (folder / f"{number:08d}.{kind}").write_bytes(encoded(picture, kind))


def read_files(kind: str, folder: Path) -> Callable[[int], Picture]:
    return lambda number: np.asarray(Image.open(folder / f"{number:08d}.{kind}"))


def write_webdataset(folder: Path, pictures: Iterator[Picture], labels: Labels) -> None:
    webdataset = importlib.import_module("webdataset")
    with webdataset.ShardWriter(str(folder / "%06d.tar"), maxcount=SHARD, verbose=0) as sink:
        for number, picture in enumerate(pictures):
            sample = {"__key__": f"{number:08d}", "png": encoded(picture, "png")}
            sink.write({**sample, "cls": int(labels[number])})


def open_webdataset(folder: Path, labels: Labels, workers: int) -> Batches:
    """Shards in random order and a shuffle buffer: this format has no exact shuffle."""
    webdataset = importlib.import_module("webdataset")
    shards = sorted(str(path) for path in folder.glob("*.tar"))
    with Image.open(io.BytesIO(first_png(folder))) as picture:
        decoder = "l8" if picture.mode == "L" else "rgb8"
    data = (
        webdataset.WebDataset(shards, shardshuffle=len(shards), seed=0, empty_check=False)
        .shuffle(SHARD)
        .decode(decoder)
        .to_tuple("png", "cls")
        .batched(BATCH)
    )
    del labels
    loader: Batches = webdataset.WebLoader(
        data, batch_size=None, num_workers=workers, persistent_workers=workers > 0
    )
    return loader


def first_png(folder: Path) -> bytes:
    """The first picture of the first shard, which says whether pictures are grey."""
    import tarfile

    with tarfile.open(min(folder.glob("*.tar"))) as shard:
        for member in shard:
            stream = shard.extractfile(member) if member.name.endswith(".png") else None
            if stream is not None:
                return stream.read()
    raise FileNotFoundError(f"no picture in {folder}")


def write_parquet(folder: Path, pictures: Iterator[Picture], labels: Labels) -> None:
    datasets = importlib.import_module("datasets")
    datasets.disable_progress_bars()
    data = datasets.Dataset.from_dict(
        {
            "image": [{"bytes": encoded(picture, "png"), "path": None} for picture in pictures],
            "label": labels.tolist(),
        },
        features=datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")}),
    )
    data.to_parquet(folder / "train.parquet")


def read_parquet(folder: Path) -> Callable[[int], Picture]:
    datasets = importlib.import_module("datasets")
    # Its own copy as Arrow files, from which it reads, is no part of the format.
    cache = folder.parent / "parquet-cache"
    data = datasets.Dataset.from_parquet(str(folder / "train.parquet"), cache_dir=str(cache))
    return lambda number: np.asarray(data[number]["image"])


FORMATS: dict[str, Format] = {
    "HDF5, gzip": Format(library="h5py", write=write_hdf5, open=items(read_hdf5)),
    "npz, compressed": Format(library="numpy", write=write_npz, open=items(read_npz)),
    "Zarr, default codec": Format(library="zarr", write=write_zarr, open=items(read_zarr)),
    "PNG files": Format(
        library="PIL",
        write=functools.partial(write_files, "png"),
        open=items(functools.partial(read_files, "png")),
    ),
    "JPEG files": Format(
        library="PIL",
        write=functools.partial(write_files, "jpeg"),
        open=items(functools.partial(read_files, "jpeg")),
    ),
    "WebDataset": Format(library="webdataset", write=write_webdataset, open=open_webdataset),
    "Parquet, PNG bytes": Format(library="datasets", write=write_parquet, open=items(read_parquet)),
}
