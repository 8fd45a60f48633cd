"""The page about the leaderboard says what the program does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from candlemark.cli.leaderboard import leaderboard
from candlemark.hub.leaderboard.queries import _KEYS, QUERY_SETS, SORTS, parse
from candlemark.report.leaderboard.board import LEVEL_WORDS, LEVELS

PAGE = (Path(__file__).parents[3] / "docs" / "leaderboard.md").read_text(encoding="utf-8")


def test_levels_are_those_of_the_program_in_its_order() -> None:
    table = PAGE.partition("## Can it do the task?")[2].partition("##")[0]
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \|", table, re.MULTILINE)
    assert [name for name, _ in rows] == list(LEVELS)
    assert dict(rows) == LEVEL_WORDS


def test_keys_sorts_and_sets_are_those_of_the_program() -> None:
    table = PAGE.partition("## Queries")[2].partition("The options")[0]
    named = re.findall(r"^\| (`.+?`) \|", table, re.MULTILINE)
    assert {key for cell in named for key in re.findall(r"`(\w+)`", cell)} == set(_KEYS)
    assert all(f"`{name}`" in PAGE for name in (*SORTS, *QUERY_SETS))


@pytest.mark.parametrize("query", re.findall(r"(?:'|\")((?:task|text)=[^'\"]+)(?:'|\")", PAGE))
def test_queries_of_the_page_are_read(query: str) -> None:
    assert parse(query).goal


def test_options_of_the_page_are_those_of_the_command() -> None:
    from inspect import signature

    known = {f"--{name.replace('_', '-')}" for name in signature(leaderboard).parameters}
    known |= {"--for", "--set", "--model"}  # the last one of another command
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", PAGE)) <= known
