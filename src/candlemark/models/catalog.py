"""The chart models by name: what they are, how large, and which set holds them.

    spec = resolve("timm/edgenext_xx_small.in1k")
    spec.parameters            # 1327216, as published, with 1000 classes
    MODEL_SETS["quick_test"]   # the ids that `--model-set quick_test` trains

Any other Hub id, timm name or local folder resolves too, and so does a model that an installed
package offers as an entry point of the group `candlemark.models`, a `ModelSpec` under the name
it is asked for by. This file loads no model library until an id outside the catalog asks for one.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Literal

from candlemark.errors import ModelError
from candlemark.models.files import find_file

Library = Literal["timm", "transformers"]
Family = Literal["cnn", "transformer"]
Triple = tuple[float, float, float]

IMAGENET_MEAN: Triple = (0.485, 0.456, 0.406)
IMAGENET_STD: Triple = (0.229, 0.224, 0.225)
HALF: Triple = (0.5, 0.5, 0.5)

ENTRY_POINT_GROUP = "candlemark.models"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """One model: where its weights live and how it is built without them.

    id: Hub id, timm name or local folder
    library: who builds it
    family: "cnn" runs in channels-last memory and takes any size; "transformer" cuts patches
    image_size: side of the square images it was published for, px
    parameters: published count with 1000 classes; None where nobody published one here
    fixed_size: its position table belongs to one image size
    architecture: timm model name, or transformers class name ("" asks the checkpoint)
    config_class, config: the transformers config that gives the published model, so that
        random weights need no network; "" and {} where only config.json tells
    mean, std: what pixels in 0..1 are normalised with; None asks the checkpoint
    """

    id: str
    library: Library
    family: Family
    image_size: int
    parameters: int | None
    fixed_size: bool
    architecture: str
    config_class: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    mean: Triple | None = None
    std: Triple | None = None

    @property
    def folder(self) -> Path | None:
        """The local folder this spec was read from, or None."""
        path = Path(self.id)
        return path if self.id not in CATALOG and path.is_dir() else None


CATALOG: dict[str, ModelSpec] = {
    "timm/edgenext_xx_small.in1k": ModelSpec(
        id="timm/edgenext_xx_small.in1k",
        library="timm",
        family="cnn",
        image_size=256,
        parameters=1_327_216,
        fixed_size=False,
        architecture="edgenext_xx_small.in1k",
    ),
    "timm/mobilenetv3_small_100.lamb_in1k": ModelSpec(
        id="timm/mobilenetv3_small_100.lamb_in1k",
        library="timm",
        family="cnn",
        image_size=224,
        parameters=2_542_856,
        fixed_size=False,
        architecture="mobilenetv3_small_100.lamb_in1k",
    ),
    "timm/ghostnet_100.in1k": ModelSpec(
        id="timm/ghostnet_100.in1k",
        library="timm",
        family="cnn",
        image_size=224,
        parameters=5_182_508,
        fixed_size=False,
        architecture="ghostnet_100.in1k",
    ),
    "google/efficientnet-b0": ModelSpec(
        id="google/efficientnet-b0",
        library="transformers",
        family="cnn",
        image_size=224,
        parameters=5_288_548,
        fixed_size=False,
        architecture="EfficientNetForImageClassification",
        config_class="EfficientNetConfig",
        config={
            "image_size": 224,
            "width_coefficient": 1.0,
            "depth_coefficient": 1.0,
            "depth_divisor": 8,
            "in_channels": [32, 16, 24, 40, 80, 112, 192],
            "out_channels": [16, 24, 40, 80, 112, 192, 320],
            "kernel_sizes": [3, 3, 5, 3, 5, 5, 3],
            "strides": [1, 2, 2, 2, 1, 2, 1],
            "num_block_repeats": [1, 2, 2, 3, 3, 4, 1],
            "expand_ratios": [1, 6, 6, 6, 6, 6, 6],
            "squeeze_expansion_ratio": 0.25,
            "hidden_dim": 1280,
            "dropout_rate": 0.2,
            "drop_connect_rate": 0.2,
        },
        mean=IMAGENET_MEAN,
        std=(0.47853944, 0.4732864, 0.47434163),
    ),
    "facebook/levit-128S": ModelSpec(
        id="facebook/levit-128S",
        library="transformers",
        family="transformer",
        image_size=224,
        parameters=7_777_058,  # with the teacher's head; 7,391,290 with one head
        fixed_size=True,
        architecture="LevitForImageClassificationWithTeacher",
        config_class="LevitConfig",
        config={
            "image_size": 224,
            "patch_size": 16,
            "hidden_sizes": [128, 256, 384],
            "num_attention_heads": [4, 6, 8],
            "depths": [2, 3, 4],
            "key_dim": [16, 16, 16],
            "drop_path_rate": 0,
            "mlp_ratio": [2, 2, 2],
            "attention_ratio": [2, 2, 2],
        },
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
    ),
    "microsoft/resnet-50": ModelSpec(
        id="microsoft/resnet-50",
        library="transformers",
        family="cnn",
        image_size=224,
        parameters=25_557_032,
        fixed_size=False,
        architecture="ResNetForImageClassification",
        config_class="ResNetConfig",
        config={
            "embedding_size": 64,
            "hidden_sizes": [256, 512, 1024, 2048],
            "depths": [3, 4, 6, 3],
            "layer_type": "bottleneck",
            "hidden_act": "relu",
        },
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
    ),
    "microsoft/swin-tiny-patch4-window7-224": ModelSpec(
        id="microsoft/swin-tiny-patch4-window7-224",
        library="transformers",
        family="transformer",
        image_size=224,
        parameters=28_288_354,
        fixed_size=False,  # relative positions: it pads its own windows at any size
        architecture="SwinForImageClassification",
        config_class="SwinConfig",
        config={
            "image_size": 224,
            "patch_size": 4,
            "embed_dim": 96,
            "depths": [2, 2, 6, 2],
            "num_heads": [3, 6, 12, 24],
            "window_size": 7,
            "mlp_ratio": 4.0,
            "drop_path_rate": 0.1,
        },
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
    ),
    "facebook/convnext-tiny-224": ModelSpec(
        id="facebook/convnext-tiny-224",
        library="transformers",
        family="cnn",
        image_size=224,
        parameters=28_589_128,
        fixed_size=False,
        architecture="ConvNextForImageClassification",
        config_class="ConvNextConfig",
        config={
            "image_size": 224,
            "patch_size": 4,
            "hidden_sizes": [96, 192, 384, 768],
            "depths": [3, 3, 9, 3],
            "layer_scale_init_value": 1e-6,
            "drop_path_rate": 0.0,
        },
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
    ),
    "google/vit-base-patch16-224": ModelSpec(
        id="google/vit-base-patch16-224",
        library="transformers",
        family="transformer",
        image_size=224,
        parameters=86_567_656,
        fixed_size=True,
        architecture="ViTForImageClassification",
        config_class="ViTConfig",
        config={
            "image_size": 224,
            "patch_size": 16,
            "hidden_size": 768,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "intermediate_size": 3072,
            "qkv_bias": True,
            "layer_norm_eps": 1e-12,
        },
        mean=HALF,
        std=HALF,
    ),
    # The two of the demo: small enough to learn a pattern from nothing on two CPU cores. Of
    # timm's other test models the plain ViTs learnt nothing, CoAtNet took five times as long.
    "timm/test_resnet.r160_in1k": ModelSpec(
        id="timm/test_resnet.r160_in1k",
        library="timm",
        family="cnn",
        image_size=160,
        parameters=469_688,
        fixed_size=False,
        architecture="test_resnet.r160_in1k",
    ),
    "timm/test_byobnet.r160_in1k": ModelSpec(
        id="timm/test_byobnet.r160_in1k",
        library="timm",
        family="cnn",
        image_size=160,
        parameters=456_856,
        fixed_size=False,
        architecture="test_byobnet.r160_in1k",
    ),
}

_LIGHTWEIGHT = (
    "timm/edgenext_xx_small.in1k",
    "timm/mobilenetv3_small_100.lamb_in1k",
    "timm/ghostnet_100.in1k",
)

MODEL_SETS: dict[str, tuple[str, ...]] = {
    "quick_test": ("timm/edgenext_xx_small.in1k", "google/efficientnet-b0"),
    "lightweight": _LIGHTWEIGHT,
    "balanced": (*_LIGHTWEIGHT, "google/efficientnet-b0", "facebook/levit-128S"),
    "full_benchmark": (
        *_LIGHTWEIGHT,
        "google/efficientnet-b0",
        "facebook/levit-128S",
        "microsoft/resnet-50",
        "microsoft/swin-tiny-patch4-window7-224",
        "facebook/convnext-tiny-224",
        "google/vit-base-patch16-224",
    ),
    "transformers_only": (
        "facebook/levit-128S",
        "microsoft/swin-tiny-patch4-window7-224",
        "google/vit-base-patch16-224",
    ),
    "cnns_only": (
        *_LIGHTWEIGHT,
        "google/efficientnet-b0",
        "microsoft/resnet-50",
        "facebook/convnext-tiny-224",
    ),
    "demo": ("timm/test_byobnet.r160_in1k", "timm/test_resnet.r160_in1k"),
}

_TRANSFORMER_STEMS = (
    *("beit", "cait", "coatnet", "crossvit", "deit", "eva", "flexivit", "hiera", "levit"),
    *("maxvit", "mvit", "naflexvit", "pit", "pvt", "segformer", "siglip", "swin", "test_vit"),
    *("tiny_vit", "tnt", "twins", "vit", "volo", "xcit", "dinov2", "dinov3", "ijepa"),
)
"""How names of models that cut patches begin. A wrong guess costs speed (the memory layout),
never a result: both layouts hold the same numbers."""


def resolve(model_id: str, *, library: Library | None = None) -> ModelSpec:
    """The spec of a catalog id, a timm name, a local folder or any other Hub id.

    `library` asks for one library where both can load the model: a timm checkpoint also loads
    through transformers. A Hub id that neither the catalog nor timm knows is asked for its
    config.json, from the Hub cache first.

    Raises ModelError: nobody knows the id; the Hub cannot be reached; config.json names
    neither library.
    """
    for candidate in (model_id, f"timm/{model_id}"):
        known = CATALOG.get(candidate)
        if known is not None and library in (None, known.library):
            return known
    if Path(model_id).is_dir():
        return _from_folder(Path(model_id), library)
    offered = _from_entry_point(model_id)
    if offered is not None:
        return offered
    if library != "transformers":
        registered = _from_timm_registry(model_id)
        if registered is not None:
            return registered
    if model_id.count("/") != 1:
        near = difflib.get_close_matches(model_id, CATALOG, n=1, cutoff=0.5)
        hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(CATALOG)}"
        raise ModelError(
            f"'{model_id}' is no catalog id, timm name, folder or Hub id (owner/name); {hint}"
        )
    path = find_file(model_id, "config.json")
    if path is None:
        raise ModelError(f"{model_id} has no config.json, so nobody can tell how to build it")
    return _from_config(model_id, path, library)


def _from_entry_point(model_id: str) -> ModelSpec | None:
    """A model that an installed package offers; loading it may register its architecture."""
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        if entry.name == model_id:
            spec = entry.load()
            if not isinstance(spec, ModelSpec):
                raise ModelError(
                    f"entry point {entry.name} = {entry.value} is {type(spec).__name__}; "
                    "it must be a candlemark.models.catalog.ModelSpec"
                )
            return spec
    return None


def _from_timm_registry(model_id: str) -> ModelSpec | None:
    import timm

    name = model_id.removeprefix("timm/")
    if "/" in name or not timm.is_model(name):
        return None
    published = timm.get_pretrained_cfg(name, allow_unregistered=True)
    return ModelSpec(
        id=model_id if "/" in model_id else f"timm/{name}",
        library="timm",
        family=family_of(name),
        image_size=int(published.input_size[-1]),
        parameters=None,
        fixed_size=bool(published.fixed_input_size),
        architecture=name,
    )


def _from_folder(folder: Path, library: Library | None) -> ModelSpec:
    path = folder / "config.json"
    if not path.is_file():
        raise ModelError(f"{folder} holds no config.json; a model folder needs one")
    return _from_config(str(folder), path, library)


def _from_config(model_id: str, path: Path, library: Library | None) -> ModelSpec:
    """Tell the library: timm writes "architecture", transformers "model_type"."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise ModelError(f"{path} is no readable JSON: {error}") from error
    timm_name, model_type = config.get("architecture"), config.get("model_type")
    if not (timm_name or model_type):
        raise ModelError(
            f"{path} names neither a timm 'architecture' nor a transformers 'model_type'"
        )
    if timm_name and not model_type and library != "transformers":
        published = config.get("pretrained_cfg", {})
        return ModelSpec(
            id=model_id,
            library="timm",
            family=family_of(timm_name),
            image_size=int(published.get("input_size", [3, 224, 224])[-1]),
            parameters=None,
            fixed_size=bool(published.get("fixed_input_size", False)),
            architecture=timm_name,
        )
    if library == "timm":
        raise ModelError(f"{model_id} is a transformers model ({model_type}); timm cannot load it")
    family = family_of(timm_name or model_type)
    size = config.get("image_size", config.get("pretrained_cfg", {}).get("input_size", 224))
    return ModelSpec(
        id=model_id,
        library="transformers",
        family=family,
        image_size=int(size if isinstance(size, int) else size[-1]),
        parameters=None,
        fixed_size=family == "transformer" and not str(model_type).startswith("swin"),
        architecture=next(
            (n for n in config.get("architectures") or () if "ForImageClassification" in n), ""
        ),
    )


def family_of(name: str) -> Family:
    """The family of a timm architecture or transformers model type, told by how it begins."""
    return "transformer" if name.startswith(_TRANSFORMER_STEMS) else "cnn"
