"""`candlemark segment` as it is typed: what flags mean, what is refused, what is shown."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from candlemark.benchmark.segmentation.config import SegmentationConfig
from candlemark.cli import main as command
from candlemark.cli import segment as cli
from candlemark.errors import CandlemarkError, ConfigError
from candlemark.execution.base import Failure, FailureKind, Outcome
from candlemark.launch import segmentation
from candlemark.scans.pairs import Doubt, Match, Pairing
from candlemark.scans.phantoms import make_phantoms

OWN_MODELS = Path(__file__).parents[1] / "benchmark" / "segmentation"
QUICK = ("--device", "cpu", "--no-page", "--no-overlays")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(OWN_MODELS))


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run `candlemark WORDS` in this process: (exit status, standard output, standard error)."""

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["candlemark", *words])
        with pytest.raises(SystemExit) as ended:
            command.main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return run


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials run in this process, to save the start of others."""

    class Here:
        def __init__(self, **_: Any) -> None:
            """As LocalExecutor is made."""

        def map(self, function: Any, items: Any) -> Any:
            for item in items:
                value, failure = None, None
                try:
                    value = function(item)
                except CandlemarkError as error:
                    failure = Failure(kind=FailureKind.REFUSED, reason=str(error))
                yield Outcome(
                    item=item, value=value, failure=failure, started_at="2026-01-01", duration_s=0.0
                )

    monkeypatch.setattr(segmentation, "LocalExecutor", Here)


@pytest.fixture
def config_of(monkeypatch: pytest.MonkeyPatch, call: Any):
    """The config that a command line stands for."""

    def resolve(*words: str) -> SegmentationConfig:
        kept: list[SegmentationConfig] = []
        monkeypatch.setattr(cli, "segment_and_show", lambda config, *_, **__: kept.append(config))
        status, _, error = call("segment", *words)
        assert (status, error) == (0, "")
        return kept[0]

    return resolve


def test_flags_are_a_config(config_of):
    config = config_of(
        *("--image-dir", "i", "--seg-dir", "s", "--max-cases", "3", "--classes", "1=liver,2=tumor"),
        *("--hf-models", "a/b=linear_probe,c/d", "--hf-models", "tiny:vit", "--epochs", "2"),
        *("--model", "tool --size 1,2 {input} {output}", "--model", "pkg.mod:f"),
        *("--metric", "hd95,dice", "--convention", "monai", "--seeds", "0,1", "--repeats", "2"),
        *("--geometry", "resample", "--no-controls", "--no-page", "--folds", "3"),
    )
    assert config.dataset.classes == {1: "liver", 2: "tumor"}
    assert (config.dataset.geometry, config.dataset.folds) == ("resample", 3)
    assert [(m.model_id, m.protocol) for m in config.huggingface_models] == [
        ("a/b", "linear_probe"),
        ("c/d", "auto"),
        ("tiny:vit", "auto"),
    ]
    assert [m.source for m in config.models] == ["tool --size 1,2 {input} {output}", "pkg.mod:f"]
    assert (config.benchmark.metrics, config.benchmark.max_cases) == (("hd95", "dice"), 3)
    assert (config.reporting.convention, config.reporting.page) == ("monai", False)
    assert (config.seeds, config.controls, config.performance.repeats) == ((0, 1), (), 2)


def test_words_may_follow_a_flag_as_scripts_write_them(config_of):
    config = config_of(
        *("--hf-models", "a/b", "c/d=none", "--phantoms", "2", "--model", "p:f", "p:g"),
        *("--metric=dice", "hd95", "--hf-models=e/f", "g/h", "--no-controls"),
    )
    assert [model.model_id for model in config.huggingface_models] == ["a/b", "c/d", "e/f", "g/h"]
    assert [model.source for model in config.models] == ["p:f", "p:g"]
    assert config.benchmark.metrics == ("dice", "hd95")
    assert cli.one_each(["--model", "a", "--", "b"]) == ["--model", "a", "--", "b"]


def test_a_config_as_people_have_it(config_of):
    Path("c.yaml").write_text(
        "dataset:\n  image_dir: i\n  seg_dir: s\n"
        "huggingface_models:\n"
        "  - {model_id: nvidia/mit-b0, description: one, type: vision-transformer, notes: }\n"
        "  - {model_id: a/b, description: , type: foundation, notes: promptable}\n"
        "  - {model_id: c/d, type: semantic-segmentation}\n"
        "models:\nleaderboard:\nreporting:\nperformance: {device: , batch_size: 2}\n"
        "benchmark:\n  max_cases: 5\n  output: out\n"
        "  metrics: [Dice, IoU, Hausdorff-95]\n  thresholds: {dice: 0.8, HD95: 5}\n",
        encoding="utf-8",
    )
    config = config_of("--config", "c.yaml")
    assert [model.type for model in config.huggingface_models][2] == "semantic-segmentation"
    assert (config.huggingface_models[0].notes, config.models) == ("", ())
    assert config.benchmark.metrics == ("dice", "iou", "hd95")
    assert config.benchmark.thresholds == {"dice": 0.8, "hd95": 5.0}
    assert (config.performance.device, config.performance.batch_size) == ("auto", 2)


def test_a_flag_turns_on_what_a_file_turns_off(config_of):
    Path("c.yaml").write_text(
        "dataset: {phantoms: 2}\ncontrols: []\n"
        "reporting: {overlays: false, page: false, keep_predictions: false}\n",
        encoding="utf-8",
    )
    off, on = (
        config_of("--config", "c.yaml", *words)
        for words in ((), ("--controls", "--overlays", "--page", "--keep-predictions"))
    )
    for config, said in ((off, False), (on, True)):
        shown = config.reporting
        assert (shown.overlays, shown.page, shown.keep_predictions) == (said, said, said)
        assert bool(config.controls) is said


def test_flags_change_what_a_file_says(config_of):
    Path("c.yaml").write_text(
        "dataset: {image_dir: i, seg_dir: s, binary: true}\n"
        "models: [{source: 'own:f'}]\nperformance: {batch_size: 2, repeats: 1}\n",
        encoding="utf-8",
    )
    config = config_of("--config", "c.yaml", "--phantoms", "4", "--model", "p:q", "--repeats", "3")
    assert (config.dataset.phantoms, config.dataset.image_dir) == (4, None)
    assert config.dataset.binary
    assert [model.source for model in config.models] == ["own:f", "p:q"]
    assert (config.performance.batch_size, config.performance.repeats) == (2, 3)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "no scans are named; give --image-dir and --seg-dir"),
        (("--image-dir", "i"), "image_dir and seg_dir go together"),
        (("--phantoms", "2", "--classes", "liver"), "write labels above 0 and their names"),
        (("--phantoms", "2", "--classes", "1=a,1=b"), "names label 1 twice"),
        (("--phantoms", "2", "--classes", "2=a"), "has values that are no class: 1 ("),
        (("--phantoms", "2", "--metric", "dicee"), "dicee is no metric of masks"),
        (("--phantoms", "2", "--convention", "x"), "is no convention; known: candlemark, monai"),
        (("--phantoms", "2", "--weights", "random"), "--weights is of models named with"),
        (("--phantoms", "2", "--epochs", "2"), "--epochs is of probes, and none is named"),
        (("--phantoms", "2", "--hf-models", "a/b=sam"), "sam_oracle_box"),
        (("--phantoms", "2", "--hf-models", "a/b="), "'a/b=' names no protocol; write one after ="),
        (("--phantoms", "2", "--hf-models", " ,"), "--hf-models ' ,' names no model; write one"),
        (("--phantoms", "2", "--metric", ""), "--metric '' names no metric; write one, such as"),
        (
            ("--phantoms", "2", "--hf-models", "a/b=samm_auto"),
            "no protocol; did you mean 'sam_auto'?",
        ),
        (("--phantoms", "2", "--output-dir", "c.csv"), "c.csv is a file; --output-dir names"),
        (("--phantoms", "2", "--model", "lost.onnx"), "there is no model file lost.onnx"),
        (("--phantoms", "2", "--model", "'tool {input} {output}"), "cannot be read: No closing"),
        (("--phantoms", "2", "--model", "absent-tool {input} {output}"), "no program absent-tool"),
        (
            ("--phantoms", "2", "--model", "tool", "{input}", "x"),
            "no command in quotes with {input}",
        ),
        (("--phantoms", "2", "tiny:vit", "--model", "own_models:bright"), "extra argument"),
        (("--phantoms", "2", "--model", "nothing"), "is no folder of predictions that exists"),
        (
            ("--image-dir", "lost", "--seg-dir", "lost"),
            "lost does not exist; give a folder of scans",
        ),
        (("--pairs", "lost.csv"), "cannot read lost.csv: No such file or directory\n"),
        (("--config", "lost.yaml"), "cannot read config lost.yaml"),
    ],
)
def test_what_is_wrong_is_one_line(call, words, said):
    Path("c.csv").write_text("", encoding="utf-8")
    status, _, error = call("segment", *words)
    assert status == 2
    assert said in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "dataset: scans\n",
            "c.yaml: dataset = 'scans': Input should be a mapping of keys (binary",
        ),
        ("models: net.pt\n", "c.yaml: models = 'net.pt': Input should be a list"),
        ("dataset:\n", "no scans are named; give --image-dir"),
    ],
)
def test_a_section_in_another_form_is_named(call, text, said):
    Path("c.yaml").write_text(text, encoding="utf-8")
    scans = ("--phantoms", "2") if "models" in text else ()
    status, _, error = call("segment", "--config", "c.yaml", "--model", "p:f", *scans)
    assert status == 2
    assert said in error
    assert error.count("\n") == 1


def test_a_run_shows_pairs_tables_files_and_what_is_next(call, in_process):
    words = ("segment", "--phantoms", "2", "--model", "own_models:bright", *QUICK)
    status, out, _ = call(*words, "--output-dir", "out", "--verbose")
    assert status == 0
    for said in (
        *("phantom_000  match", "2 cases", "own_models:bright", "Otsu threshold"),
        *("oracle", "TOO_FEW", "Rank stability", "benchmark_results_", "next:    candlemark"),
    ):
        assert said.lower() in out.lower()
    status, again, _ = call(*words, "--output-dir", "out")
    assert (status, "--no-resume runs them again" in again) == (0, True)


def test_json_is_one_object(call, in_process):
    status, out, _ = call(
        "segment",
        "--phantoms",
        "1",
        "--no-controls",
        "--model",
        "own_models:bright",
        "--json",
        *QUICK,
    )
    found = json.loads(out)
    assert (status, found["ran"], len(found["boards"])) == (0, 1, 1)
    assert Path(found["files"]["cases"]).is_file()
    assert Path(found["files"]["config"]).is_file()


def test_a_run_without_one_answer_leaves_a_status_and_is_tried_again(call, in_process):
    words = ("segment", "--phantoms", "1", "--no-controls", *QUICK, "--json")
    words = (*words, "--model", "false {input} {output}")
    for _ in range(2):
        status, out, error = call(*words)
        assert (status, error) == (1, "")
        found = json.loads(out)
        assert found["ran"] == 1
    assert "ok" not in found["boards"][0]["rows"][0]["outcomes"]
    told = call(*(word for word in words if word != "--json"))[1]
    assert told.endswith("mend what is told above, and the same command asks again\n")


def test_a_saved_config_runs_again_with_run(call, in_process):
    call("segment", "--phantoms", "1", "--no-controls", "--model", "own_models:bright", *QUICK)
    (saved,) = Path("benchmarks/results").glob("suite_*.yaml")
    status, out, _ = call("run", str(saved))
    assert (status, "every trial had been finished before" in out) == (0, True)


def test_a_report_into_a_pipe_has_every_column_of_the_run(call, in_process, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    run = call("segment", "--phantoms", "2", *QUICK, "--output-dir", "out", "--no-controls",
               "--model", "own_models:bright")[1]  # fmt: skip
    words = ("report", "--results-dir", "out/results", "--reports-dir", "out/reports")
    (told,) = (line for line in run.splitlines() if line.startswith(" row") and "ASSD" in line)
    assert told in call(*words)[1].splitlines()


def test_files_without_a_partner_are_told(call, in_process):
    folder = Path("phantoms")
    make_phantoms(folder, 2)
    (folder / "references" / "phantom_001.nii.gz").rename(folder / "references" / "p_10.nii.gz")
    words = ("--image-dir", str(folder / "images"), "--seg-dir", str(folder / "references"))
    status, out, _ = call(
        "segment", *words, "--no-controls", "--model", "own_models:bright", *QUICK
    )
    assert status == 0
    assert "no reference" in out
    assert "no image" in out
    assert "1 case, 2 files without a partner or in doubt" in out
    again = call(
        "segment", *words, "--no-controls", "--model", "own_models:bright", *QUICK, "--json"
    )
    left_out = json.loads(again[1])["left_out"]
    assert [line["state"] for line in left_out] == ["no reference", "no image"]


def test_files_that_are_left_out_are_counted(capsys):
    match = Match(case="a", image=Path("a.png"), reference=Path("a_seg.png"))
    doubt = Doubt(
        case="c", images=(Path("c.png"), Path("c.nii")), references=(Path("d.png"),), reason="two"
    )
    alone = {"b": Path("b.png")}
    for doubts, said in (
        ((), "1 case, 1 file without a partner or in doubt, which is left out"),
        ((doubt,), "1 case, 4 files without a partner or in doubt, which are left out"),
    ):
        found = Pairing(matches=(match,), missing_reference=alone, missing_image={}, doubts=doubts)
        cli.show_pairs(found, whole=False)
        assert capsys.readouterr().out.strip().endswith(said)


def test_words_for_models_are_read():
    assert cli.hub_models(None, weights=None, epochs=None) is None
    assert cli.hub_models(["a=none, b"], weights="random", epochs=None) == [
        {"model_id": "a", "protocol": "none", "weights": "random"},
        {"model_id": "b", "weights": "random"},
    ]
    with pytest.raises(ConfigError, match="is not understood"):
        cli.read_classes("0=background")
