"""Put the answers of a probe over its scans into the README, from a run that was made.

candlemark segment --phantoms 12 --hf-models tiny:resnet=linear_probe --weights random
python docs/make_segmentation_picture.py benchmarks/reports
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

PICTURE = Path(__file__).parent / "images" / "segmentation.png"
DRAWN = "overlays/segment_overlay_tiny_resnet.png"
COLOURS = 128
WIDTH = 1100


def main() -> None:
    """Take the report's overlay of the probe, in a quarter of its bytes."""
    if len(sys.argv) != 2:
        sys.exit("usage: python docs/make_segmentation_picture.py REPORTS_FOLDER")
    drawn = Path(sys.argv[1]) / DRAWN
    if not drawn.is_file():
        sys.exit(
            f"{drawn} is not there; run: candlemark segment --phantoms 12 "
            "--hf-models tiny:resnet=linear_probe --weights random"
        )
    picture = Image.open(drawn).convert("RGB")
    picture.thumbnail((WIDTH, WIDTH))
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(PICTURE, optimize=True)


if __name__ == "__main__":
    main()
