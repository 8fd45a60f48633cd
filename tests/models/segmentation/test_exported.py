"""Networks of one's own, from ONNX and TorchScript files: pictures, volumes, scores, labels."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from candlemark.errors import ModelError
from candlemark.models.segmentation.base import Case, Labels, SegmenterSpec, Stopwatch
from candlemark.models.segmentation.exported import build_onnx, build_torchscript
from candlemark.models.segmentation.failures import CaseError
from candlemark.models.segmentation.weights import weights_sha256

VOLUME = np.random.default_rng(0).integers(0, 1000, (5, 12, 10)).astype(np.int16)
VOLUME[abs(VOLUME - 500) < 20] = 400  # none on the edge, where half precision may round across
VOLUME[0, 0, :2] = 0, 1000
BRIGHT = (VOLUME > 500).astype(np.uint8)

Save = Callable[..., Path]
MakeSpec = Callable[..., SegmenterSpec]


class Brightness(nn.Module):
    """One logit a pixel: above 0 where a share of the window is above one half."""

    def __init__(self, dimensions: int = 2, channels: int = 1, *, ending: str = "logit") -> None:
        super().__init__()
        convolution = nn.Conv2d if dimensions == 2 else nn.Conv3d
        self.layer = convolution(channels, 1, 1)
        self.ending = ending
        with torch.no_grad():
            self.layer.weight.fill_(20.0 / channels)
            self.layer.bias.fill_(-10.0)  # type: ignore[union-attr]

    def forward(self, pixels: Tensor) -> Tensor:
        return ENDINGS[self.ending](self.layer(pixels))


ENDINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "logit": lambda logit: logit,
    "sigmoid": lambda logit: logit.sigmoid(),
    "classes": lambda logit: torch.cat([-logit, logit], dim=1),
    "labels": lambda logit: (logit > 0).long(),
    "truth": lambda logit: logit > 0,
    "flat": lambda logit: logit.sigmoid()[:, 0],
    "coarse": lambda logit: nn.functional.avg_pool2d(logit, 2),
}


@pytest.fixture
def save_torchscript(tmp_path: Path) -> Save:
    def save(network: nn.Module, dimensions: int = 2, channels: int = 1) -> Path:
        path = tmp_path / "network.pt"
        example = torch.rand(1, channels, *(4,) * dimensions)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.jit.save(torch.jit.trace(network.eval(), example), str(path))
        return path

    return save


@pytest.fixture
def save_onnx(tmp_path: Path) -> Save:
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

    def save(
        shape: tuple[Any, ...], *, classes: int = 1, element: Any = None, inputs: int = 1
    ) -> Path:
        """1x1 convolution that gives 20 x - 10, for each further class its negative."""
        element = element or onnx.TensorProto.FLOAT
        kind = onnx.helper.tensor_dtype_to_np_dtype(element)
        channels = shape[1] if isinstance(shape[1], int) else 1
        weight = np.full((classes, channels, *(1,) * (len(shape) - 2)), 20.0 / channels, kind)
        bias = np.full(classes, -10.0, kind)
        weight[:-1] *= -1
        bias[:-1] *= -1
        parts = [
            onnx.numpy_helper.from_array(weight, "weight"),
            onnx.numpy_helper.from_array(bias, "bias"),
        ]
        graph = onnx.helper.make_graph(
            [onnx.helper.make_node("Conv", ["image", "weight", "bias"], ["scores"])],
            "brightness",
            [
                onnx.helper.make_tensor_value_info(name, element, shape)
                for name in ["image", "other"][:inputs]
            ],
            [onnx.helper.make_tensor_value_info("scores", element, None)],
            parts,
        )
        model = onnx.helper.make_model(
            graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9
        )
        path = tmp_path / "network.onnx"
        onnx.save(model, path)
        return path

    return save


@pytest.fixture
def case(make_case: Callable[..., Case]) -> Case:
    return make_case(VOLUME)


@pytest.fixture
def asked(make_spec: MakeSpec, watch: Stopwatch) -> Callable[..., Labels]:
    """What the network of a file answers."""

    def ask(path: Path, case: Case, *, batch_size: int = 2, **options: Any) -> Labels:
        classes = options.pop("classes", {1: "lesion"})
        build = build_onnx if path.suffix == ".onnx" else build_torchscript
        spec = make_spec(
            str(path), kind=path.suffix, protocol="own", classes=classes, options=options
        )
        return build(spec, batch_size=batch_size).segment(case, watch)

    return ask


@pytest.mark.parametrize("ending", ["logit", "sigmoid", "classes", "labels", "truth", "flat"])
def test_torchscript_of_pictures_answers_in_any_form(
    save_torchscript: Save, asked: Callable[..., Labels], case: Case, ending: str
) -> None:
    path = save_torchscript(Brightness(ending=ending))
    assert (asked(path, case) == BRIGHT).all()


@pytest.mark.parametrize("options", [{}, {"patch": [2, 8, 4]}, {"patch": [9, 5, 16]}])
@pytest.mark.parametrize("ending", ["logit", "sigmoid", "classes", "truth", "flat"])
def test_torchscript_of_volumes_by_patches_or_whole(
    save_torchscript: Save,
    asked: Callable[..., Labels],
    case: Case,
    ending: str,
    options: dict[str, Any],
) -> None:
    path = save_torchscript(Brightness(3, ending=ending), 3)
    assert (asked(path, case, **options) == BRIGHT).all()


def test_a_network_of_pictures_reads_patches_of_one_slice(
    save_torchscript: Save, asked: Callable[..., Labels], case: Case
) -> None:
    path = save_torchscript(Brightness())
    assert (asked(path, case, patch=[1, 5, 5]) == BRIGHT).all()
    with pytest.raises(ModelError, match=r"reads pictures, and the patch \[2, 5, 5\] has 2 slices"):
        asked(path, case, patch=[2, 5, 5])


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_the_answer_does_not_depend_on_the_batch(
    save_torchscript: Save, asked: Callable[..., Labels], case: Case, batch_size: int
) -> None:
    path = save_torchscript(Brightness())
    assert (asked(path, case, batch_size=batch_size) == BRIGHT).all()


def test_one_slice_within_0_to_1_does_not_make_logits_probabilities(
    save_torchscript: Save, asked: Callable[..., Labels], make_case: Callable[..., Case]
) -> None:
    """Logits 0.2 and 0.4 mean the class; a slice of them alone would be read as probabilities."""
    volume = np.zeros((2, 1, 2), np.float32)
    volume[0] = (0.51, 0.52)
    volume[1] = (0.0, 1.0)
    path = save_torchscript(Brightness())
    found = asked(path, make_case(volume), batch_size=1)
    assert found.tolist() == [[[1, 1]], [[0, 1]]]
    outright = asked(path, make_case(volume), batch_size=1, activation="none")
    assert outright.tolist() == [[[0, 0]], [[0, 1]]]


def test_the_threshold_is_of_the_probability_also_for_logits(
    save_torchscript: Save, asked: Callable[..., Labels], make_case: Callable[..., Case]
) -> None:
    volume = np.linspace(0, 1, 41, dtype=np.float32).reshape(1, 1, 41)
    for ending in ("logit", "sigmoid"):
        path = save_torchscript(Brightness(ending=ending))
        found = asked(path, make_case(volume), threshold=0.9)
        probability = 1 / (1 + np.exp(10 - 20 * volume))
        assert (found == (probability > 0.9)).all()


@pytest.mark.parametrize("option", [{"threshold": 0.9}, {"activation": "sigmoid"}])
def test_what_one_channel_is_read_by_is_refused_for_several(
    save_torchscript: Save, asked: Callable[..., Labels], case: Case, option: dict[str, Any]
) -> None:
    path = save_torchscript(nn.Conv2d(1, 2, 1))
    with pytest.raises(ModelError, match=f"gives 2 channels, which reads no {next(iter(option))}"):
        asked(path, case, **option)


def test_a_network_in_half_precision_gets_what_it_takes(
    save_torchscript: Save, asked: Callable[..., Labels], case: Case, tmp_path: Path
) -> None:
    path = tmp_path / "half.pt"
    network = nn.Sequential(nn.Conv2d(1, 1, 1)).to(torch.bfloat16)
    network.load_state_dict(
        {"0.weight": torch.full((1, 1, 1, 1), 20.0), "0.bias": torch.full((1,), -10.0)}
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(network), str(path))
    assert (asked(path, case) == BRIGHT).mean() > 0.99


def test_a_coarse_answer_is_enlarged(
    save_torchscript: Save, asked: Callable[..., Labels], make_case: Callable[..., Case]
) -> None:
    volume = np.zeros((1, 8, 8), np.float32)
    volume[:, :, 4:] = 1
    path = save_torchscript(Brightness(ending="coarse"))
    assert (asked(path, make_case(volume)) == volume).all()


def test_colour_and_grey_meet_whatever_the_network_takes(
    save_torchscript: Save, asked: Callable[..., Labels], make_case: Callable[..., Case]
) -> None:
    grey = np.array([[[0, 255]]], np.uint8)
    colour = np.repeat(grey[..., None], 3, axis=-1)
    for channels in (1, 3):
        path = save_torchscript(Brightness(channels=channels), channels=channels)
        for voxels in (grey, colour):
            assert asked(path, make_case(voxels)).tolist() == [[[0, 1]]]


def test_intensities_may_be_raw(
    save_torchscript: Save, asked: Callable[..., Labels], make_case: Callable[..., Case]
) -> None:
    volume = np.array([[[-1000, 0, 1, 1000]]], np.int16)
    path = save_torchscript(Brightness())
    assert asked(path, make_case(volume), intensity="raw").tolist() == [[[0, 0, 1, 1]]]
    with pytest.raises(ModelError, match=r"intensity is 'HU'; allowed: window, raw"):
        asked(path, make_case(volume), intensity="HU")


def test_the_one_class_may_be_label_two(
    save_torchscript: Save, asked: Callable[..., Labels], case: Case
) -> None:
    for ending in ("logit", "classes"):
        path = save_torchscript(Brightness(ending=ending))
        assert (asked(path, case, classes={2: "lesion"}) == 2 * BRIGHT).all()
    path = save_torchscript(Brightness())
    with pytest.raises(ModelError, match=r"answers with one class.*class_map: {1: a}"):
        asked(path, case, classes={1: "a", 2: "b"})
    found = asked(path, case, classes={1: "a", 2: "b"}, class_map={"1": "b"})
    assert (found == 2 * BRIGHT).all()


def test_a_file_of_weights_is_no_torchscript(tmp_path: Path, make_spec: MakeSpec) -> None:
    path = tmp_path / "weights.pt"
    torch.save(Brightness().state_dict(), path)
    with pytest.raises(ModelError, match=r"no TorchScript archive.*--model package.module:funct"):
        build_torchscript(make_spec(str(path)), batch_size=1)
    with pytest.raises(ModelError, match="holds an OrderedDict, no network"):
        build_torchscript(make_spec(str(path), allow_pickle=True), batch_size=1)
    with pytest.raises(ModelError, match=r"there is no model file absent\.pt"):
        build_torchscript(make_spec("absent.pt"), batch_size=1)


class Halving(Brightness):
    """Halves, doubles and adds, as a U-Net does; odd sides do not meet again."""

    def forward(self, pixels: Tensor) -> Tensor:
        small = nn.functional.max_pool2d(pixels, 2)
        return super().forward(pixels) + 0 * nn.functional.interpolate(small, scale_factor=2.0)


def test_a_network_that_halves_is_given_patches_that_it_can(
    save_torchscript: Save, asked: Callable[..., Labels], make_case: Callable[..., Case]
) -> None:
    case = make_case(VOLUME[:, :11, :9])
    path = save_torchscript(Halving())
    with pytest.raises(
        CaseError, match=r"does not fit sides of \(11, 9\) .*such as patch: \[1, 32, 32\]"
    ):
        asked(path, case)
    assert (asked(path, case, patch=[1, 32, 32]) == BRIGHT[:, :11, :9]).all()


def test_an_overlap_of_no_patches_is_refused(
    save_torchscript: Save, asked: Callable[..., Labels], case: Case
) -> None:
    path = save_torchscript(Brightness())
    with pytest.raises(ModelError, match="overlap is of patches, and it reads none"):
        asked(path, case, overlap=0.25)


def test_a_pickled_module_runs_only_where_that_is_allowed(
    tmp_path: Path, make_spec: MakeSpec, case: Case, watch: Stopwatch
) -> None:
    path = tmp_path / "module.pt"
    network = nn.Sequential(nn.Conv2d(1, 1, 1))
    network.load_state_dict(
        {"0.weight": torch.full((1, 1, 1, 1), 20.0), "0.bias": torch.ones(1) * -10}
    )
    torch.save(network, path)
    with pytest.raises(ModelError, match="allow_pickle: true, for it can run any code"):
        build_torchscript(make_spec(str(path)), batch_size=1)
    segmenter = build_torchscript(make_spec(str(path), allow_pickle=True), batch_size=1)
    assert (segmenter.segment(case, watch) == BRIGHT).all()
    assert segmenter.facts["model_class"] == "Sequential"


def test_a_network_without_convolutions_must_say_what_it_reads(
    tmp_path: Path, asked: Callable[..., Labels], case: Case, save_torchscript: Save
) -> None:
    path = save_torchscript(nn.Threshold(0.5, 0.0))
    with pytest.raises(ModelError, match="say dimensions: 2 or dimensions: 3"):
        asked(path, case)
    assert (asked(path, case, dimensions=2) == BRIGHT).all()


def test_more_channels_than_a_scan_has_are_refused(
    save_torchscript: Save, asked: Callable[..., Labels], case: Case
) -> None:
    path = save_torchscript(Brightness(channels=4), channels=4)
    with pytest.raises(ModelError, match="takes 4 channels; a scan gives 1"):
        asked(path, case)


@pytest.mark.parametrize("shape", [("n", 1, "y", "x"), (1, 1, "y", "x"), ("n", "c", "y", "x")])
@pytest.mark.parametrize("classes", [1, 2])
def test_onnx_of_pictures(
    save_onnx: Save, asked: Callable[..., Labels], case: Case, shape: Any, classes: int
) -> None:
    assert (asked(save_onnx(shape, classes=classes), case) == BRIGHT).all()


def test_onnx_of_volumes_takes_its_fixed_size_as_patch(
    save_onnx: Save, asked: Callable[..., Labels], case: Case
) -> None:
    path = save_onnx((1, 1, 3, 8, 8))
    assert (asked(path, case, batch_size=4) == BRIGHT).all()
    with pytest.raises(ModelError, match=r"takes \[3, 8, 8\] only, and the patch is \[2, 8, 8\]"):
        asked(path, case, patch=[2, 8, 8])
    assert (asked(save_onnx(("n", 1, "z", "y", "x")), case, patch=[2, 6, 7]) == BRIGHT).all()


def test_onnx_of_a_fixed_picture_sees_slices_at_that_size(
    save_onnx: Save, asked: Callable[..., Labels], make_case: Callable[..., Case]
) -> None:
    volume = np.zeros((3, 8, 16), np.uint8)
    volume[:, :, 8:] = 255
    path = save_onnx(("n", 3, 16, 16))
    assert (asked(path, make_case(volume)) == volume // 255).all()


def test_a_slice_that_gets_smaller_keeps_what_lies_between_the_pixels(
    save_onnx: Save, asked: Callable[..., Labels], make_case: Callable[..., Case]
) -> None:
    """Four rows are bright on average; the two in their middle, seen alone, are not."""
    volume = np.full((1, 64, 64), 255, np.uint8)
    volume[:, 1::4], volume[:, 2::4] = 0, 100
    path = save_onnx(("n", 1, 16, 16))
    assert asked(path, make_case(volume)).all()


def test_onnx_in_half_precision(save_onnx: Save, asked: Callable[..., Labels], case: Case) -> None:
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    path = save_onnx(("n", 1, "y", "x"), element=onnx.TensorProto.FLOAT16)
    assert (asked(path, case) == BRIGHT).all()


def test_onnx_files_that_cannot_be_asked(
    tmp_path: Path, save_onnx: Save, make_spec: MakeSpec
) -> None:
    def refused(path: Path, told: str, **changed: Any) -> None:
        with pytest.raises(ModelError, match=told):
            build_onnx(make_spec(str(path), **changed), batch_size=1)

    refused(save_onnx(("n", 1, "y", "x"), inputs=2), r"takes 2 inputs \(image, other\)")
    refused(save_onnx((4, 1, "y", "x")), "takes 4 items at once and no other number; export it")
    refused(save_onnx(("n", 1, "x")), r"of shape \['n', 1, 'x'\]; allowed: float")
    refused(save_onnx(("n", 1, "y", 64)), "some lengths are fixed and others open")
    refused(save_onnx(("n", 1, "y", "x")), "has nothing for cuda:0.*--device cpu", device="cuda:0")
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no network")
    refused(broken, "is no ONNX model that can be run")


def test_weights_beside_an_onnx_file_are_part_of_it(
    save_onnx: Save, asked: Callable[..., Labels], case: Case
) -> None:
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    path = save_onnx(("n", 1, "y", "x"))
    alone = weights_sha256(path)
    assert alone == hashlib.sha256(path.read_bytes()).hexdigest()
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="w.bin", size_threshold=0)
    assert (asked(path, case) == BRIGHT).all()
    first = weights_sha256(path)
    weights = path.with_name("w.bin")
    weights.write_bytes(weights.read_bytes()[::-1])
    assert len({alone, first, weights_sha256(path)}) == 3


def test_one_logit_that_is_not_a_number_fails_the_case(
    save_torchscript: Save, asked: Callable[..., Labels], make_case: Callable[..., Case]
) -> None:
    volume = VOLUME.astype(np.float32)
    volume[2, 3, 4] = np.nan
    with pytest.raises(CaseError, match=r"the scores hold NaN.*intensity: raw"):
        asked(save_torchscript(Brightness()), make_case(volume), intensity="raw")


def test_an_answer_of_other_dimensions_fails_the_case(
    save_torchscript: Save, asked: Callable[..., Labels], case: Case
) -> None:
    path = save_torchscript(nn.Sequential(nn.Conv2d(1, 1, 1), nn.Flatten()))
    with pytest.raises(CaseError, match=r"scores of shape \(2, 120\); allowed: \(2, classes") as it:
        asked(path, case)
    assert it.value.outcome == "wrong_shape"


def test_facts_tell_how_it_is_asked(
    save_torchscript: Save, make_spec: MakeSpec, case: Case, watch: Stopwatch
) -> None:
    path = save_torchscript(Brightness(3), 3)
    options = {"patch": [2, 8, 8], "class_map": {"1": "lesion"}}
    spec = make_spec(str(path), kind="torchscript", protocol="own", options=options)
    segmenter = build_torchscript(spec, batch_size=2)
    assert segmenter.facts["reads"] == "patches of 2x8x8 voxels, overlap 0.5, gaussian"
    assert segmenter.facts["parameters"] == 2
    assert len(segmenter.facts["weights_sha256"]) == 64
    assert segmenter.facts["class_map"] == {"1": 1}
    segmenter.segment(case, watch)
    assert set(watch.totals_ms) == {"load", "preprocess", "forward", "postprocess"}
