"""What a builder is asked for: a described model, where its files are, and the shape of its items.

    request = LoadRequest(described=described, file=None, shape=InputShape(), seed=0)
    request.beside("tokenizer.json")          # Path, or None where the model has no tokenizer here

Needs no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from candlemark.errors import ModelError
from candlemark.models.files import cached_file, find_file
from candlemark.models.inference.base import Described, InputShape


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadRequest:
    """One model to build.

    described: what it is and where its config lies
    file: its weights (.safetensors, the index of shards, or an allowed pickle); None: random
    shape: None fields take what the model was made for
    seed: of random weights
    allow_pickle: the file may be no safetensors
    """

    described: Described
    file: Path | None
    shape: InputShape
    seed: int = 0
    allow_pickle: bool = False

    def beside(self, name: str) -> Path | None:
        """The model's file `name` (tokenizer.json, preprocessor_config.json ...), or None.

        Looked for beside the weights, then beside the config, then in the Hub cache. The Hub
        itself is asked only for weights that came from it; if it cannot be reached, the model
        does without the file, and its facts say where the items come from.
        """
        folders = [self.file.parent if self.file else None, self.described.folder]
        for folder in folders:
            if folder is not None and (folder / name).is_file():
                return folder / name
        if not self.described.on_hub:
            return None
        path = cached_file(self.described.id, name)
        if path is not None or self.described.weights != "pretrained":
            return path
        try:
            return find_file(self.described.id, name)
        except ModelError:
            return None
