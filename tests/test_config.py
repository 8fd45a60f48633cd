"""Configs: variables, unknown keys, and messages that name the way out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pytest
from pydantic import Field, model_validator

from candlemark.config import Config, load, parse
from candlemark.errors import ConfigError


class Training(Config):
    epochs: int = 3
    learning_rate: float = 1e-3


class Suite(Config):
    name: str = "suite"
    training: Training = Training()
    stages: tuple[Training, ...] = ()
    shares: tuple[Annotated[float, Field(gt=0)], ...] = Field(default=(1.0,), min_length=1)


def written(folder: Path, text: str, name: str = "suite.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_yaml_and_json_give_the_same_config(tmp_path):
    yaml = written(tmp_path, "name: a\ntraining: {epochs: 5}\n")
    json = written(tmp_path, '{"name": "a", "training": {"epochs": 5}}', "suite.json")
    assert load(Suite, yaml) == load(Suite, json) == Suite(name="a", training=Training(epochs=5))


def test_variables_are_substituted_at_any_depth(tmp_path, monkeypatch):
    monkeypatch.setenv("SUITE_NAME", "night")
    path = written(tmp_path, "name: ${SUITE_NAME}-run\nstages: [{epochs: '${EPOCHS:-7}'}]\n")
    assert load(Suite, path) == Suite(name="night-run", stages=(Training(epochs=7),))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"nmae": "a"}, "config: unknown key 'nmae'; did you mean 'name'?"),
        ({"training": {"epoch": 1}}, "unknown key 'training.epoch'; did you mean 'epochs'?"),
        ({"stages": [{"epoch": 1}]}, "unknown key 'stages.0.epoch'; did you mean 'epochs'?"),
        ({"zzz": 1}, "unknown key 'zzz'; known: name, shares, stages, training"),
        ({"training": {"epochs": "many"}}, "training.epochs = 'many': Input should be a valid"),
        ({"shares": []}, "shares = []: List should have at least 1 item"),
        ({"shares": 0.5}, "shares = 0.5: Input should be a list: [a, b], or a line with '- '"),
        ({"stages": {"epochs": 1}}, "config: stages: Input should be a list: "),
        (
            {"stages": ["many"]},
            "stages.0 = 'many': Input should be a mapping of keys (epochs, learning_rate)",
        ),
    ],
)
def test_what_does_not_fit_is_named(value, message):
    with pytest.raises(ConfigError) as caught:
        parse(Suite, value)
    assert message in str(caught.value)


def test_a_list_of_refused_entries_is_not_called_too_short_as_well():
    with pytest.raises(ConfigError) as caught:
        parse(Suite, {"shares": [0]})
    assert str(caught.value) == "config: shares.0 = 0: Input should be greater than 0"


def test_every_problem_is_named_at_once():
    with pytest.raises(ConfigError) as caught:
        parse(Suite, {"nmae": 1, "training": {"epochs": "x"}})
    assert "nmae" in str(caught.value)
    assert "training.epochs" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: ${NOT_SET_ANYWHERE}", "the config uses ${NOT_SET_ANYWHERE}, which is not set"),
        ("[1, 2]", "holds list; a config is a mapping of keys"),
        ("# later", "holds nothing; a config is a mapping of keys"),
        ("name: [", "is not valid YAML"),
        ("day: 2023-02-31", "is not valid YAML: day is out of range for month"),
        (
            "training:\n\tepochs: 5",
            "is not valid YAML: found character '\\t' that cannot start any ",
        ),
        ("training:\n\tepochs: 5", "token (line 2, column 1)"),
        ("name: a\nname: b", "is not valid YAML: the key 'name' stands twice (line 2, column 1)"),
        ("training: {epochs: 1, epochs: 2}", "'epochs' stands twice (line 1, column 23)"),
    ],
)
def test_files_that_are_no_config(tmp_path, text, message):
    with pytest.raises(ConfigError) as caught:
        load(Suite, written(tmp_path, text))
    assert message in str(caught.value)


def test_an_anchor_is_no_key_twice(tmp_path):
    text = "stages:\n  - &a {epochs: 1}\n  - &b {<<: *a, epochs: 2}\n  - {<<: *b, epochs: 3}\n"
    assert [one.epochs for one in load(Suite, written(tmp_path, text)).stages] == [1, 2, 3]


def test_json_names_no_key_twice(tmp_path):
    with pytest.raises(ConfigError, match=r"is not valid JSON: the key 'name' stands twice"):
        load(Suite, written(tmp_path, '{"name": "a", "name": "b"}', "suite.json"))


def test_a_file_that_is_no_text_is_named(tmp_path):
    path = tmp_path / "picture.yaml"
    path.write_bytes(b"\x89PNG\xff")
    with pytest.raises(ConfigError, match=r"cannot read config .*picture.yaml: it is no text"):
        load(Suite, path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot read config .*absent.yaml: No such file"):
        load(Suite, tmp_path / "absent.yaml")


class Range(Config):
    low: int = 0
    high: int = 1

    @model_validator(mode="after")
    def _in_order(self) -> Range:
        if self.high < self.low:
            raise ValueError("high is below low")
        return self


class Ranges(Config):
    inner: Range = Range()


def test_a_rule_between_keys_is_told_without_the_whole_mapping():
    with pytest.raises(ConfigError) as caught:
        parse(Range, {"low": 5})
    assert str(caught.value) == "config: high is below low"
    with pytest.raises(ConfigError) as caught:
        parse(Ranges, {"inner": {"low": 5}})
    assert str(caught.value) == "config: inner: high is below low"
