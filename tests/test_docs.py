"""Documentation cannot drift: its code runs, its tree is the disk, its reference is generated."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize(
    "page", ["README.md", "docs/library.md", "docs/datasets.md", "docs/inference.md"]
)
def test_the_code_of_a_page_runs_as_one_program(page, tmp_path):
    blocks = BLOCK.findall((ROOT / page).read_text(encoding="utf-8"))
    assert blocks
    program = tmp_path / "page.py"
    program.write_text("\n".join(blocks), encoding="utf-8")
    command = [sys.executable, program]
    own = {**os.environ, "CANDLEMARK_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        command, cwd=tmp_path, env=own, capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_models_and_the_config_of_the_segmentation_page_run(tmp_path, monkeypatch):
    from candlemark.benchmark.segmentation.config import SegmentationConfig
    from candlemark.config import load
    from candlemark.execution.base import Outcome
    from candlemark.launch.segmentation import run_segmentation
    from candlemark.scans.phantoms import make_phantoms

    class Here:
        def map(self, function, items):
            for item in items:
                yield Outcome(item=item, value=function(item), started_at="now", duration_s=0.0)

    text = (ROOT / "docs" / "segmentation.md").read_text(encoding="utf-8")
    for code in BLOCK.findall(text):
        name = re.match(r"# (\w+\.py);", code)
        (tmp_path / (name[1] if name else "measured.py")).write_text(code, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls its own TorchScript deprecated
        for program in ("export.py", "measured.py"):
            runpy.run_path(program, run_name=program.removesuffix(".py"))
    make_phantoms(tmp_path / "scans", count=2, seed=0)
    page = text.partition("```yaml\n")[2].partition("```")[0]
    page = page.replace("  - source: net.pt", "  - source: net.onnx\n  - source: net.pt")
    page = page.replace("source: python ", f"source: {sys.executable} ")
    (tmp_path / "whole.yaml").write_text(page, encoding="utf-8")
    config = load(SegmentationConfig, tmp_path / "whole.yaml")
    scans = config.dataset.model_copy(update={"folds": 5})  # of probes, of which none stays
    own = config.model_copy(update={"huggingface_models": (), "controls": (), "dataset": scans})
    finished = run_segmentation(own, executor=Here())
    outcomes = {
        record.facts["row"]: [case["reason"] or case["outcome"] for case in record.cases]
        for record in finished.records
    }
    every = ["ok", "ok"]
    assert outcomes == {"bright": every, "net.onnx": every, "net.pt": every, "otsu of three": every}


def test_the_config_of_the_segmentation_page_is_whole_and_its_code_compiles(tmp_path):
    from candlemark.benchmark.segmentation.config import SegmentationConfig
    from candlemark.config import load

    text = (ROOT / "docs" / "segmentation.md").read_text(encoding="utf-8")
    page = tmp_path / "whole.yaml"
    page.write_text(text.partition("```yaml\n")[2].partition("```")[0], encoding="utf-8")
    assert load(SegmentationConfig, page).model_fields_set == set(SegmentationConfig.model_fields)
    for code in BLOCK.findall(text):
        compile(code, "docs/segmentation.md", "exec")


def test_the_segmentation_page_names_words_and_flags_that_there_are():
    import typer.main

    from candlemark.cli.main import app
    from candlemark.scans.pairs import IMAGE_WORDS, MASK_WORDS

    text = (ROOT / "docs" / "segmentation.md").read_text(encoding="utf-8")
    table = dict(re.findall(r"^\| of an? (image|mask) \| (.*) \|$", text, re.MULTILINE))
    assert re.findall(r"`(\w+)`", table["image"]) == list(IMAGE_WORDS)
    assert re.findall(r"`(\w+)`", table["mask"]) == list(MASK_WORDS)
    command = typer.main.get_command(app).commands["segment"]
    flags = {flag for option in command.params for flag in (*option.opts, *option.secondary_opts)}
    assert set(re.findall(r"--[a-z][a-z-]*", text)) <= flags


def test_the_tree_in_the_readme_is_the_disk():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    tree = text.partition("src/candlemark/\n")[2].partition("```")[0]
    listed = re.findall(r"── ([a-z_.]+)(/?)", tree)
    package = ROOT / "src" / "candlemark"
    on_disk = {
        (entry.name, "/" if entry.is_dir() else "")
        for entry in package.iterdir()
        if (entry.is_dir() and not entry.name.startswith("__"))
        or (entry.suffix == ".py" and not entry.name.startswith("__"))
    }
    assert set(listed) == on_disk
    assert len(listed) == len(set(listed))


def test_links_between_pages_lead_somewhere():
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_readme_counts_and_names_what_stands_at_the_root():
    import candlemark

    text = (ROOT / "README.md").read_text(encoding="utf-8").partition("names stand at the root:")[2]
    assert set(candlemark.__all__) == set(re.findall(r"`(\w+)`", text.partition(", which")[0]))
    assert len(candlemark.__all__) == 13, "the README says thirteen"


@pytest.mark.parametrize(
    "script",
    [
        "make_cli_reference.py",
        "make_measures.py",
        "make_performance.py",
        "make_source_tree.py",
    ],
)
def test_generated_pages_are_up_to_date(script):
    check = [sys.executable, ROOT / "docs" / script, "--check"]
    done = subprocess.run(check, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr


def test_model_sets_in_the_readme_are_the_catalog():
    from candlemark.models.catalog import MODEL_SETS

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert {name for name in MODEL_SETS if name != "demo"} == set(
        re.findall(r"^\| `([a-z_]+)` \|", text, re.MULTILINE)
    )


def test_no_committed_file_names_a_machine_or_an_index():
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, encoding="utf-8", check=False
    )
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    forbidden = re.compile(r"--(extra-)?index-url|https?://[^ ]*/simple/|(^|[\s\"'=])/(home|root)/")
    for name in listed.stdout.split():
        path = ROOT / name
        if path.suffix in {".py", ".md", ".toml", ".yaml", ".yml", ""} and path.is_file():
            found = forbidden.search(path.read_text(encoding="utf-8", errors="replace"))
            assert path.name == "test_docs.py" or found is None, f"{name}: {found}"
