"""Photograph the top of a finished report for the README, with headless Chromium.

candlemark demo --output-dir demo
python docs/make_report_picture.py demo/results
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from candlemark.report.build import build_report
from candlemark.results.store import open_results

PICTURE = Path(__file__).parent / "images" / "report.png"
WIDTH, HEIGHT = 1200, 1470
MOST_BYTES = 400_000
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def main() -> None:
    """Build the report of the results folder named on the command line and photograph it."""
    if len(sys.argv) != 2:
        sys.exit("usage: python docs/make_report_picture.py RESULTS_FOLDER")
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if browser is None:
        sys.exit(f"no browser found among {', '.join(BROWSERS)}; install chromium and try again")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with open_results(sys.argv[1], read_only=True) as results:
            page = build_report(results, folder, prefix="demo").html
        shot = folder / "shot.png"
        command = [
            *(browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
            *(f"--window-size={WIDTH},{HEIGHT}", "--virtual-time-budget=5000"),
            *(f"--screenshot={shot}", page.resolve().as_uri()),
        ]
        done = subprocess.run(  # noqa: S603 - a browser found by name
            command, capture_output=True, encoding="utf-8", timeout=120, check=False
        )
        if done.returncode or not shot.is_file():
            sys.exit(f"{browser} made no picture: {done.stderr.strip()[-300:]}")
        save(shot)


def save(shot: Path) -> None:
    """Write the picture with as many colours as fit into 400 kB; text stays sharp with 256."""
    picture = Image.open(shot).convert("RGB")
    PICTURE.parent.mkdir(exist_ok=True)
    picture.quantize(256, dither=Image.Dither.NONE).save(PICTURE, optimize=True)
    size = PICTURE.stat().st_size
    if size > MOST_BYTES:
        sys.exit(f"{PICTURE} has {size:,} bytes; the README bears at most {MOST_BYTES:,}")


if __name__ == "__main__":
    main()
