"""Which rows a config asks for, what their ids depend on, and what is refused before they run."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import SimpleITK

from candlemark.benchmark.segmentation.plan import shares_process
from candlemark.benchmark.segmentation.rows import rows_of
from candlemark.benchmark.segmentation.stated import own_classes
from candlemark.errors import ConfigError, ModelError
from candlemark.models.inference.base import Described
from candlemark.models.segmentation.base import PROTOCOLS

SAM = "tiny:sam"


def names(rows):
    return [row.name for row in rows]


def test_controls_come_first_then_own_models_then_those_of_the_hub(config_of):
    config = config_of(
        controls=("otsu", "oracle_box", "untrained_head"),
        models=[{"source": "own_models:bright", "name": "ours"}],
        huggingface_models=[{"model_id": "tiny:vit", "type": "backbone"}],
    )
    assert names(rows_of(config)) == [
        "control: Otsu threshold",
        "control: oracle box as mask",
        "control: untrained head",
        "ours",
        "tiny:vit",
    ]
    assert {row.spec.source for row in rows_of(config)[2:]} == {"tiny:vit", "own_models:bright"}


def test_an_oracle_has_a_row_for_each_jitter(config_of):
    models = [{"model_id": SAM, "protocol": "sam_oracle_box", "jitter": (0.0, 0.25)}]
    rows = rows_of(config_of(huggingface_models=models))
    assert names(rows) == [SAM, f"{SAM}, prompt moved by 25%"]
    assert [row.spec.options for row in rows] == [{"jitter": 0.0}, {"jitter": 0.25}]
    assert [row.by_chance for row in rows] == [False, True]


def test_a_model_asked_in_two_ways_is_told_apart_by_name(config_of):
    models = [{"model_id": SAM, "protocol": way} for way in ("sam_auto", "sam_oracle_point")]
    rows = rows_of(config_of(huggingface_models=models))
    assert names(rows)[:2] == [f"{SAM} (sam_auto)", f"{SAM} (sam_oracle_point)"]
    with pytest.raises(ConfigError, match=r"tiny:sam is named twice"):
        rows_of(config_of(huggingface_models=[models[0], models[0]]))


def test_the_protocol_follows_from_the_type_or_from_the_model(config_of):
    (typed,) = rows_of(config_of(huggingface_models=[{"model_id": "a/b", "type": "swin"}]))
    assert (typed.spec.protocol, typed.why) == ("linear_probe", "type: swin")
    for model in ({"model_id": SAM}, {"model_id": SAM, "type": "foundation"}):
        (found,) = rows_of(config_of(huggingface_models=[model]))
        assert found.spec.protocol == "sam_auto"
        assert "SamModel" in str(found.why)


@pytest.mark.parametrize(
    ("field", "model", "said"),
    [
        (
            "huggingface_models",
            {"model_id": SAM, "protocol": "sam_auto", "jitter": (0.1,)},
            "tiny:sam is asked as sam_auto, which reads no jitter",
        ),
        (
            "huggingface_models",
            {"model_id": "a/b", "protocol": "none", "prompts": {"lesion": "x"}},
            "reads no prompts; take prompts out .read by: clip_dense",
        ),
        ("models", {"source": "tool {input} {output}", "patch": (1, 2, 2)}, "reads no patch"),
    ],
)
def test_no_key_is_dead(config_of, field, model, said):
    with pytest.raises(ConfigError, match=said):
        rows_of(config_of(**{field: [model]}))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"huggingface_models": [{"model_id": "a/b", "type": "segfromer"}]}, "mean 'segformer'"),
        ({"huggingface_models": [{"model_id": "a/b", "protocol": "own"}]}, "with --model"),
        ({"huggingface_models": [{"model": "a/b"}]}, "did you mean 'model_id'"),
        ({"benchmark": {"metrics": ["dicee"]}}, "dicee is no metric of masks"),
        ({"benchmark": {"thresholds": {"dise": 0.8}}}, "dise is no metric of masks"),
        ({"reporting": {"convention": "monay"}}, "is no convention; known: candlemark"),
        ({"benchmark": {"thresholds": {"dice": 80}}}, "dice runs from 0 to 1, and 80 is no bar"),
        ({"benchmark": {"thresholds": {"hd95": -1}}}, "hd95 is never below 0, and -1 is no bar"),
        ({"benchmark": {"thresholds": {"dice": float("nan")}}}, "dice = nan: .* finite number"),
        (
            {"benchmark": {"thresholds": {"Dice": 0.8, "hd95": 5, "DSC": 0.7}}},
            "test: benchmark.thresholds: Dice and DSC are one metric, dice; keep one of them",
        ),
        ({"benchmark": {"metrics": []}}, r"benchmark.metrics = \[\]: List should have at least 1"),
        ({"benchmark": {"max_cases": True}}, "max_cases = True: Input should be a number"),
        ({"performance": {"timeout_s": True}}, "timeout_s = True: Input should be a number"),
        ({"seeds": [0, True]}, "test: seeds.1 = True: Input should be a number$"),
        (
            {"huggingface_models": [{"model_id": SAM, "class_map": {"1": True}}]},
            "class_map.1 = True: Input should be a number$",
        ),
        (
            {"models": [{"source": "net.pt", "patch": (True, 8, 8)}]},
            "patch.0 = True: Input should be a number$",
        ),
        (
            {"huggingface_models": [{"model_id": SAM, "jitter": [True]}]},
            "jitter.0 = True: Input should be a number$",
        ),
        ({"benchmark": {"thresholds": {"dice": True}}}, "dice = True: Input should be a number$"),
        ({"performance": {"timeout_s": float("inf")}}, "timeout_s = inf: .* finite number"),
        (
            {"huggingface_models": [{"model_id": SAM, "jitter": []}]},
            r"0.jitter = \[\]: List should",
        ),
        ({"huggingface_models": [SAM]}, "0 = 'tiny:sam': Input should be a mapping of keys"),
        (
            {"models": [{"source": "net.pt", "patch": (0, 8, 8)}]},
            "patch.0 = 0: .* than or equal to 1",
        ),
    ],
)
def test_a_config_names_what_does_not_fit(config_of, fields, said):
    with pytest.raises(ConfigError, match=said):
        config_of(**fields)


def test_folds_without_a_probe_are_refused(config_of, works_of):
    with pytest.raises(ConfigError, match="folds = 2: they are of probes, and none is named"):
        works_of(config_of({"folds": 2}, controls=("otsu",)))


def test_a_seed_that_decides_nothing_is_refused(config_of, works_of):
    splits = {"train": ["case_1"], "test": ["case_2"]}
    probe = [{"model_id": "tiny:vit", "protocol": "linear_probe"}]
    for config in (
        config_of({"seed": 3}, controls=("otsu",)),
        config_of({"seed": 3, "splits": splits}, huggingface_models=probe),
    ):
        with pytest.raises(ConfigError, match=r"dataset\.seed = 3: .* take it out"):
            works_of(config)


def test_a_config_that_asks_nothing_is_refused(config_of):
    with pytest.raises(ConfigError, match="no model is named and no control, so nothing would"):
        rows_of(config_of())


def test_a_home_is_written_as_in_a_shell(config_of, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    asked = config_of(
        {"image_dir": "~/images", "seg_dir": "~/masks"}, benchmark={"output": "~/bench"}
    )
    assert asked.dataset.image_dir == tmp_path / "images"
    assert asked.benchmark.output == tmp_path / "bench"


def test_chance_alone_gets_more_seeds(config_of, works_of):
    config = config_of(
        controls=("otsu",),
        models=[{"source": "own_models:bright"}],
        huggingface_models=[{"model_id": "tiny:vit", "protocol": "linear_probe"}],
        seeds=(0, 1, 2),
    )
    works = works_of(config)
    seeds = [(work.trial.role, work.trial.config["seed"]) for work in works]
    assert seeds == [("control", 0), ("model", 0), ("model", 0), ("model", 1), ("model", 2)]
    assert len({work.trial.id for work in works}) == 5
    probe = works[2]
    assert len(probe.folds) == 4
    assert all(set(fold.train) & set(fold.test) == set() for fold in probe.folds)
    assert probe.trial.facts["case_counts"] == {"train": 3, "test": 4}
    assert works[0].trial.facts["case_counts"] == {"train": 0, "test": 4}
    assert works[0].folds == ()


def test_who_learns_from_whom_decides_what_a_probe_says(config_of, works_of):
    probe = [{"model_id": "tiny:vit", "protocol": "linear_probe"}]
    ways = [{}, {"folds": 2}, {"folds": 2, "seed": 3}, {"folds": 4}]
    ids = [works_of(config_of(way, huggingface_models=probe))[0].trial.id for way in ways]
    assert ids[0] == ids[3]  # of four cases no more than four folds can be dealt
    assert len(set(ids)) == 3


def test_an_id_goes_by_what_answers_and_not_by_what_is_shown(config_of, works_of):
    own = [{"source": "own_models:bright"}]
    (first,) = works_of(config_of(models=own))
    (shown,) = works_of(
        config_of(
            models=[{**own[0], "notes": "new"}],
            benchmark={"metrics": ["hd95"], "thresholds": {"hd95": 3}, "tolerance_mm": 2},
            reporting={"convention": "monai", "page": False},
        )
    )
    (other,) = works_of(config_of(models=[{**own[0], "threshold": 0.7}]))
    (fewer,) = works_of(config_of(models=own, benchmark={"max_cases": 3}))
    assert shown.trial.id == first.trial.id
    assert len({first.trial.id, other.trial.id, fewer.trial.id}) == 3


def test_the_content_of_finished_masks_decides(config_of, works_of, scans, tmp_path):
    folder = tmp_path / "done"
    folder.mkdir()
    mask = (scans / "masks" / "case_1.nii.gz").read_bytes()
    (folder / "case_1.nii.gz").write_bytes(mask)
    (one,) = works_of(config_of(models=[{"source": str(folder)}]))
    (folder / "case_2.nii.gz").write_bytes(mask)
    (two,) = works_of(config_of(models=[{"source": str(folder)}]))
    assert one.trial.id != two.trial.id
    assert one.files == {"case_1": folder / "case_1.nii.gz"}


def test_the_raw_data_of_a_finished_mask_decides_and_not_its_header_alone(
    config_of, works_of, scans, tmp_path
):
    folder = tmp_path / "masks"
    folder.mkdir()
    mask = SimpleITK.ReadImage(str(scans / "masks" / "case_1.nii.gz"))
    ids = []
    for value in (mask, mask * 0):
        SimpleITK.WriteImage(value, str(folder / "case_1.mhd"))
        (work,) = works_of(config_of(models=[{"source": str(folder)}]))
        ids.append(work.trial.id)
    assert len(set(ids)) == 2


def test_what_lies_beside_a_folder_s_weights_decides_too(config_of, works_of, tmp_path):
    """Classes under other numbers, or pictures read in another way, are another model."""
    config = {"model_type": "segformer", "architectures": ["SegformerForSemanticSegmentation"]}
    asked = {"model_id": str(tmp_path), "class_map": {"tumor": "lesion"}}
    ids = []
    for names in ({"0": "liver", "1": "tumor"}, {"0": "tumor", "1": "liver"}):
        written = json.dumps({**config, "id2label": names})
        (tmp_path / "config.json").write_text(written, encoding="utf-8")
        for size in (64, 64, 32):
            settings = json.dumps({"image_processor_type": "SegformerImageProcessor", "size": size})
            (tmp_path / "preprocessor_config.json").write_text(settings, encoding="utf-8")
            (work,) = works_of(config_of(huggingface_models=[{**asked, "weights": "random"}]))
            ids.append(work.trial.id)
    assert ids[0] == ids[1]
    assert len(set(ids)) == 4


def test_masks_of_other_cases_alone_are_refused(config_of, works_of, scans, tmp_path):
    folder = tmp_path / "done"
    folder.mkdir()
    mask = (scans / "masks" / "case_1.nii.gz").read_bytes()
    (folder / "case_10.nii.gz").write_bytes(mask)
    with pytest.raises(ModelError, match=r"no mask of any case here: it has case_10"):
        works_of(config_of(models=[{"source": str(folder)}]))


def test_a_module_that_is_not_there_is_found_out_while_planning(config_of, works_of):
    with pytest.raises(ModelError, match="there is no module no_such_module"):
        works_of(config_of(models=[{"source": "no_such_module:f"}]))


def test_a_package_that_cannot_be_imported_is_found_out_while_planning(
    config_of, works_of, tmp_path, monkeypatch, capsys
):
    monkeypatch.syspath_prepend(str(tmp_path))
    for name, does in (("broken", "raise RuntimeError('no licence')"), ("left", "exit(4)")):
        package = tmp_path / name
        package.mkdir()
        (package / "__init__.py").write_text(f"print('loading')\n{does}\n", encoding="utf-8")
        (package / "model.py").touch()
        with pytest.raises(
            ModelError, match=rf"{name}\.model of .*: (RuntimeError: no|SystemExit: 4)"
        ):
            works_of(config_of(models=[{"source": f"{name}.model:f"}]))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (
            {"model_id": "tiny:segformer"},
            (
                "nobody said what the classes of tiny:segformer mean (LABEL_0, LABEL_1, LABEL_2, "
                "LABEL_3, LABEL_4, LABEL_5, LABEL_6, LABEL_7 and 2 more); give it a class_map in "
                "the config, such as class_map: {'LABEL_0': 'lesion'}"
            ),
        ),
        (
            {"model_id": "tiny:segformer", "class_map": {"LABEL_1": "lesoin"}},
            "the reference has no class 'lesoin'; did you mean 'lesion'?",
        ),
        (
            {"model_id": "tiny:segformer", "class_map": {10: "lesion"}},
            "the class map names class 10 of tiny:segformer, which has 10: 0 to 9",
        ),
        (
            {"model_id": "tiny:clip"},
            (
                "tiny:clip is asked with texts, and none is given; give it in the config "
                "prompts: {background: ..., lesion: ...}"
            ),
        ),
        (
            {"model_id": "tiny:clip", "prompts": {"background": "x", "liver": "y"}},
            (
                "tiny:clip has no prompt for lesion; each class needs one, and background too, "
                "because a place gets the class of the likest text"
            ),
        ),
    ],
)
def test_what_a_user_must_state_is_asked_for_before_anything_runs(
    config_of, works_of, monkeypatch, model, said
):
    def too_late(*_):
        raise AssertionError("weights of the first model were looked for")

    monkeypatch.setattr("candlemark.benchmark.segmentation.plan.identity_of", too_late)
    first = {"model_id": "tiny:vit", "protocol": "linear_probe"}
    with pytest.raises(ModelError) as raised:
        works_of(config_of(huggingface_models=[first, model]))
    assert str(raised.value) == said


@pytest.mark.parametrize("protocol", ["linear_probe", "sam_auto", "none"])
def test_a_model_that_nobody_knows_is_found_out_while_planning(
    config_of, works_of, tmp_path, protocol
):
    model = {"model_id": str(tmp_path / "absent"), "protocol": protocol, "weights": "random"}
    with pytest.raises(ModelError, match="absent' is no model folder"):
        works_of(config_of(huggingface_models=[model]))


def test_a_program_that_is_not_there_is_found_out_while_planning(config_of, works_of):
    with pytest.raises(ModelError) as raised:
        works_of(config_of(models=[{"source": "absent-tool --fast {input} {output}"}]))
    assert str(raised.value) == (
        "there is no program absent-tool (of --model 'absent-tool --fast {input} {output}') that "
        "can be run; give its path, or the interpreter before it: python tool.py {input} {output}"
    )


def test_more_classes_than_a_probe_can_learn_are_refused(config_of, works_of):
    probe = [{"model_id": "tiny:vit", "protocol": "linear_probe"}]

    def planned(classes):
        named = {"classes": {label: f"class {label}" for label in range(1, classes + 1)}}
        return works_of(config_of(named, huggingface_models=probe))

    assert len(planned(254)[0].spec.classes) == 254
    with pytest.raises(ModelError) as raised:
        planned(255)
    assert str(raised.value) == (
        "tiny:vit would have to learn 255 classes, and a probe learns at most 254; take all as "
        "one with --binary, or leave the probe out"
    )


def test_classes_are_those_of_the_config_beside_the_weights(config_of, works_of, tmp_path):
    (tmp_path / "config.json").write_text(
        '{"model_type": "segformer", "architectures": ["SegformerForSemanticSegmentation"], '
        '"id2label": {"0": "dark", "1": "bright"}}',
        encoding="utf-8",
    )
    model = {"model_id": str(tmp_path), "weights": "random", "class_map": {"bright": 1}}
    (work,) = works_of(config_of(huggingface_models=[model]))
    assert work.spec.options["class_map"] == {"bright": 1}
    with pytest.raises(ModelError, match="has no class 'brigth'; did you mean 'bright'"):
        works_of(config_of(huggingface_models=[{**model, "class_map": {"brigth": 1}}]))


def test_a_head_of_two_classes_may_leave_them_without_names():
    def names(**config):
        described = Described(
            id="a/b",
            library="transformers",
            model_task="",
            model_class="",
            weights="random",
            config=config,
        )
        return own_classes(described)

    assert names() == names(num_labels=None) == {0: "LABEL_0", 1: "LABEL_1"}
    assert names(num_labels=1) == {0: "LABEL_0"}
    assert names(num_labels=3, id2label={"0": "a", "1": "b"}) == {0: "a", 1: "b"}


def test_every_protocol_sees_at_the_size_that_is_asked_for(config_of):
    told = {
        "native_head": {"class_map": {"1": "lesion"}},
        "clip_dense": {"prompts": {"background": "x", "lesion": "y"}},
    }
    for protocol in [one for one in PROTOCOLS if one != "own"]:
        model = {"model_id": "a/b", "protocol": protocol, **told.get(protocol, {})}
        for row in rows_of(config_of(huggingface_models=[{**model, "image_size": 96}])):
            assert row.spec.options["image_size"] == 96
        for row in rows_of(config_of(huggingface_models=[model])):
            assert "image_size" not in row.spec.options
    with pytest.raises(ConfigError, match=r"image_size.*16"):
        config_of(huggingface_models=[{"model_id": "a/b", "image_size": 15}])


def test_the_size_that_a_model_sees_makes_another_trial_and_the_untrained_head_has_it_too(
    config_of, works_of
):
    probe = {"model_id": "tiny:vit", "protocol": "linear_probe"}

    def planned(**changed):
        models = [{**probe, **changed}]
        return works_of(config_of(controls=("untrained_head",), huggingface_models=models))

    usual, large = planned(), planned(image_size=96)
    assert [work.spec.options.get("image_size") for work in large] == [96, 96]
    assert not {work.trial.id for work in usual} & {work.trial.id for work in large}


def test_works_cross_processes_and_controls_share_one(config_of, works_of):
    works = works_of(
        config_of(controls=("otsu",), models=[{"source": "own_models:bright"}]),
    )
    copies = pickle.loads(pickle.dumps(works))  # noqa: S301 - our own
    assert [copy.trial.id for copy in copies] == [work.trial.id for work in works]
    assert [shares_process(True)(work) for work in works] == ["controls", None]
    assert {shares_process(False)(work) for work in works} == {"all"}


def test_facts_say_what_a_table_needs_of_a_row_that_fails(config_of, works_of):
    (work,) = works_of(
        config_of(models=[{"source": "own_models:bright", "description": "d", "notes": "n"}])
    )
    facts = work.trial.facts
    assert facts["cases"] == ["case_1", "case_2", "case_3", "case_4"]
    assert (facts["row"], facts["protocol"], facts["role"]) == ("own_models:bright", "own", "model")
    assert (facts["class_names"], facts["oracle"], facts["untrained"]) == (
        {"1": "lesion"},
        False,
        False,
    )
    assert (facts["description"], facts["notes"], facts["dataset"]) == ("d", "n", "scans")
    assert work.predictions == Path(work.predictions.parent) / work.trial.id
