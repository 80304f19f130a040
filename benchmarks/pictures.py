"""The pictures of the README, from a finished run of the embedded cohort.

    python benchmarks/pictures.py RUN

Writes `docs/pictures/samples.png` (a row each of images that the teacher was trained on, of its samples, and of the
student's, chosen by the run's seed) and `docs/pictures/report.png` (the first screen of the report, drawn by Chromium).
Patients' images are refused.
"""

import base64
import io
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from raydistill.folder import opened
from raydistill.report.evidence import Evidence
from raydistill.report.pictures import Grid, real_grid, sample_grid

OUT = Path(__file__).parents[1] / "docs" / "pictures"
COLUMNS, SIDE, GAP = 12, 64, 4
SCREEN = {"width": 1200, "height": 900}


def main() -> None:
    """Draw and write."""
    runner = opened(sys.argv[1])
    if runner.config.source.kind != "phantom":
        sys.exit("these pictures are shown to everybody: only a run of the embedded cohort will do")
    runner.plan()
    OUT.mkdir(exist_ok=True)
    evidence = Evidence(runner)
    grids = [real_grid(evidence), sample_grid(evidence, "teacher"), sample_grid(evidence, "student", kept_only=True)]
    rows([grid for grid in grids if grid]).save(OUT / "samples.png", optimize=True)
    screenshot(Path(runner.run.path) / "report.html", OUT / "report.png")


def rows(grids: Sequence[Grid]) -> Image.Image:
    """Put each grid's first pictures into a row."""
    step = SIDE + GAP
    sheet = Image.new("L", (COLUMNS * step - GAP, len(grids) * step - GAP), 255)
    for row, grid in enumerate(grids):
        for column, shown in enumerate(grid.pictures[:COLUMNS]):
            content = base64.b64decode(shown.uri.partition(",")[2])
            with Image.open(io.BytesIO(content)) as image:
                sheet.paste(image.resize((SIDE, SIDE), Image.Resampling.BICUBIC), (column * step, row * step))
    return sheet


def screenshot(page: Path, out: Path) -> None:
    """Draw the first screen of a page."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        shown = browser.new_page(viewport=SCREEN)
        shown.goto(page.absolute().as_uri())
        shown.screenshot(path=out)
        browser.close()


if __name__ == "__main__":
    main()
