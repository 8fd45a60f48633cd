"""Models as the Hub tells of them, for a double: what is usual, and what cards really hold."""

from __future__ import annotations

from typing import Any


def entry(model_id: str, **told: Any) -> dict[str, Any]:
    """A model in good order; `told` stands above it. `model_index` is what `model-index` holds."""
    index = told.pop("model_index", None)
    files = told.pop("files", ("config.json", "model.safetensors"))
    found = {
        "_id": "1",
        "id": model_id,
        "private": False,
        "gated": False,
        "disabled": False,
        "downloads": 100,
        "downloadsAllTime": 5_000,
        "likes": 3,
        "trendingScore": 1,
        "createdAt": "2024-01-01T00:00:00.000Z",
        "lastModified": "2025-01-02T03:04:05.000Z",
        "sha": "a" * 40,
        "tags": ["transformers", "license:mit"],
        "library_name": "transformers",
        "safetensors": {"parameters": {"F32": 4_000_000}, "total": 4_000_000},
        "siblings": [{"rfilename": name} for name in files],
    }
    if index is not None:
        found["model-index"] = index
    return {**found, **told}


def segformer(model_id: str = "nvidia/segformer-b0", **told: Any) -> dict[str, Any]:
    config = {"architectures": ["SegformerForSemanticSegmentation"], "model_type": "segformer"}
    return entry(model_id, **{"pipeline_tag": "image-segmentation", "config": config, **told})


def index(
    value: Any, *, metric: str = "dice", dataset: str = "isic", **metric_told: Any
) -> list[dict[str, Any]]:
    """A model-index with one result."""
    return [
        {
            "name": "m",
            "results": [
                {
                    "task": {"type": "image-segmentation"},
                    "dataset": {"type": dataset, "name": dataset.upper(), "split": "test"},
                    "metrics": [{"type": metric, "value": value, **metric_told}],
                }
            ],
        }
    ]


def several() -> list[dict[str, Any]]:
    """One model of each kind that a search for segmentation finds."""
    return [
        segformer(downloads=500_000),
        segformer(
            "clinic/segformer-lesion",
            downloads=230,
            gated="auto",
            tags=["medical", "license:apache-2.0"],
            model_index=index(0.887, verified=True),
        ),
        segformer(
            "lab/mask2former-skin",
            downloads=1_800,
            tags=["medical"],
            config={
                "architectures": ["Mask2FormerForUniversalSegmentation"],
                "model_type": "mask2former",
            },
            model_index=index(85.2),
        ),
        entry(
            "MONAI/spleen",
            pipeline_tag="image-segmentation",
            library_name="monai",
            tags=["monai", "medical"],
            files=("configs/metadata.json", "models/model.pt"),
            safetensors=None,
            downloads=None,
            downloadsAllTime=None,
        ),
        entry(
            "facebook/sam-vit-base",
            pipeline_tag="mask-generation",
            config={"architectures": ["SamModel"], "model_type": "sam"},
            downloads=400_000,
        ),
        entry(
            "notes/medical",
            pipeline_tag="image-segmentation",
            tags=["medical"],
            library_name=None,
            safetensors=None,
            files=("README.md", ".gitattributes"),
        ),
    ]
