"""Draw what each input adds, for the README and docs/fusion.md, from a study that was run.

candlemark run examples/fusion.yaml
python docs/make_fusion_picture.py benchmarks/results
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from PIL import Image

from candlemark.report.fusion.figures import draw
from candlemark.report.fusion.questions import ask
from candlemark.report.statistics import build_boards
from candlemark.results.store import open_results

PICTURE = Path(__file__).parent / "images" / "fusion.png"
COLOURS = 64
"""Enough for text and four colours, in a quarter of the bytes."""


def main() -> None:
    """Take the report's figure of the planted market in the results folder named."""
    if len(sys.argv) != 2:
        sys.exit("usage: python docs/make_fusion_picture.py RESULTS_FOLDER")
    with open_results(sys.argv[1], read_only=True) as results:
        boards = build_boards(results.records())
    found = [board for board in boards if board.is_fusion and board.market == "planted"]
    if len(found) != 1:
        sys.exit(
            f"{sys.argv[1]} holds {len(found)} studies of fusion on a planted market, not 1; "
            "run: candlemark run examples/fusion.yaml"
        )
    with tempfile.TemporaryDirectory() as folder:
        (drawn,) = draw(found[0], ask(found[0]), Path(folder), prefix="fusion")
        picture = Image.open(drawn).convert("RGB")
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(PICTURE, optimize=True)


if __name__ == "__main__":
    main()
