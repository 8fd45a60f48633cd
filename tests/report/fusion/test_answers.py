"""What each input adds, on markets where the truth is known; and when there is no answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from candlemark.hardware.comparability import comparability_key
from candlemark.metrics.forecast import score_forecast
from candlemark.metrics.summary import Difference, holm
from candlemark.records import RunRecord, content_id
from candlemark.report.contests import differing_fields
from candlemark.report.fusion.questions import Answer, Study, ask, says_the_last_close
from candlemark.report.fusion.sentences import alarm, attainable, effect, findings, headline, signed
from candlemark.report.recommendations import answer
from candlemark.report.statistics import Board, build_boards

Make = Callable[..., Board]


def verdicts(study: Study) -> dict[tuple[str, str], str]:
    return {(found.question, found.metric): found.verdict for found in study.answers}


class TestKnownAnswers:
    def test_text_and_pixels_help_where_each_tells_what_the_other_does_not(
        self, fakes: ModuleType, board: Make
    ) -> None:
        study = ask(board(*fakes.ROWS))
        assert set(verdicts(study).values()) == {"yes"}
        assert headline(study) == (
            "the text helps; the pixels help; together they beat the numbers and persistence"
        )
        over = {(found.question, found.metric): found.other for found in study.answers}
        assert over["text", "auroc"] == "image only"
        assert over["pixels", "mase"] == "text only"
        assert over["persistence", "auroc"] == "baseline: persistence"
        assert over["persistence", "mase"] == "the last close"

    def test_text_that_tells_the_answer_helps_and_pixels_of_noise_do_not(
        self, fakes: ModuleType, board: Make
    ) -> None:
        blind = replace(fakes.IMAGE, image=0.0)
        deaf = replace(fakes.BOTH, image=0.0)
        study = ask(board(deaf, blind, fakes.TEXT, fakes.NUMBERS, fakes.PERSISTENCE))
        assert verdicts(study)["text", "auroc"] == "yes"
        assert verdicts(study)["text", "mase"] == "yes"
        assert verdicts(study)["pixels", "auroc"] == "not shown"
        assert verdicts(study)["pixels", "mase"] == "not shown"
        assert headline(study).startswith("the text helps; the pixels are not shown to help; ")

    def test_the_same_model_twice_is_a_tie_of_exactly_0(
        self, fakes: ModuleType, board: Make
    ) -> None:
        pair = fakes.fusion_record(fakes.BOTH)
        twin = replace(
            pair, trial_id="twin", facts={**pair.facts, "row": "text only", "inputs": "text"}
        )
        (both,) = build_boards([pair, twin])
        pixels = ask(both).of("pixels")
        assert [(a.gain, a.gain_bounds, a.p_value, a.verdict) for a in pixels] == [
            (0.0, (0.0, 0.0), 1.0, "not shown")
        ] * 2
        assert effect(pixels[1]) == "MASE 0.0000 against text only [0.0000, 0.0000], p = 1.000"

    def test_pixels_that_harm_are_named(self, fakes: ModuleType, board: Make) -> None:
        confused = replace(fakes.BOTH, image=0.0, text=0.5, noise=1.2)
        study = ask(board(confused, fakes.TEXT, fakes.IMAGE, fakes.PERSISTENCE))
        assert verdicts(study)["pixels", "mase"] == "worse"
        assert "the pixels make it worse" in headline(study)
        assert verdicts(study)["persistence", "mase"] == "worse"
        sentence = next(found.text for found in findings(study) if "pixels" in found.title)
        assert "no, it is worse" in sentence.lower()

    def test_a_help_for_one_measure_alone_is_told_for_that_one(
        self, fakes: ModuleType, board: Make
    ) -> None:
        study = ask(board(*fakes.ROWS))
        kept = tuple(
            replace(found, p_value=0.4) if found.metric == "mase" else found
            for found in study.answers
        )
        said = headline(replace(study, answers=kept))
        assert said.startswith(
            "the text helps for the class, not shown for the next close; the pixels help for the "
            "class, not shown for the next close; "
        )
        assert said.endswith(
            "together they beat persistence for the class, not shown for the next close"
        )

    def test_a_yes_of_some_rows_is_told_of_those_alone(
        self, fakes: ModuleType, board: Make
    ) -> None:
        study = ask(board(*fakes.ROWS, fakes.GATED))

        def kept(*unshown: tuple[str, str]) -> str:
            answers = tuple(
                replace(found, p_value=0.4) if (found.row, found.metric) in unshown else found
                for found in study.answers
            )
            return headline(replace(study, answers=answers)).split("; ")[0]

        one, other = fakes.BOTH.name, fakes.GATED.name
        assert kept() == "the text helps"
        assert kept((one, "mase")) == (
            f"the text helps for the class, with {other} for the next close"
        )
        assert kept((one, "mase"), (other, "auroc")) == (
            f"the text helps with {one} for the class, with {other} for the next close"
        )
        assert kept((one, "mase"), (one, "auroc")) == f"the text helps with {other}"
        assert kept((one, "mase"), (other, "mase"), (one, "auroc")) == (
            f"the text helps with {other} for the class, not shown for the next close"
        )


class TestWhoIsAsked:
    def test_every_way_to_fuse_is_asked_and_all_are_corrected_together(
        self, fakes: ModuleType, board: Make
    ) -> None:
        deaf = replace(fakes.GATED, text=0.0, noise=0.16)
        study = ask(board(*fakes.ROWS, deaf))
        assert study.comparisons == len(study.answers) == 16
        assert "the text helps with text + image (text_to_image); " in headline(study)
        text = findings(study)[0].text
        assert "text + image (text_to_image): Yes: " in text
        assert "text + image (gated): Not shown: " in text

    def test_p_values_are_those_of_one_family(self, fakes: ModuleType, board: Make) -> None:
        weak = replace(fakes.TEXT, text=0.5)
        close = replace(fakes.BOTH, text=0.5, image=0.25)
        study = ask(board(close, weak, fakes.IMAGE, fakes.PERSISTENCE))
        raw = [
            answer.difference.p_value
            for answer in study.answers
            if answer.difference is not None and answer.difference.p_value is not None
        ]
        corrected = [answer.p_value for answer in study.answers if answer.p_value is not None]
        assert len(raw) == study.comparisons == 6
        assert corrected == pytest.approx(holm(raw))
        assert corrected != pytest.approx(raw)

    def test_one_model_alone_says_what_would_answer(self, fakes: ModuleType, board: Make) -> None:
        study = ask(board(fakes.BOTH, fakes.BOOSTING, fakes.PERSISTENCE))
        assert headline(study) == (
            "for what text and pixels add, run: candlemark fuse compare; "
            "together they beat the numbers and persistence"
        )

    def test_the_numbers_are_beaten_where_every_learner_is(
        self, fakes: ModuleType, board: Make
    ) -> None:
        strong = replace(fakes.BOOSTING, text=1.0, image=1.0)
        study = ask(board(fakes.BOTH, fakes.NUMBERS, strong))
        found = {a.metric: a for a in study.of("numbers")}
        assert found["auroc"].other == strong.name
        assert found["auroc"].verdict == "not shown"
        assert ask(board(fakes.BOTH, fakes.NUMBERS)).of("numbers")[0].verdict == "yes"

    def test_worse_than_one_of_the_learners_is_worse(self, fakes: ModuleType, board: Make) -> None:
        weak = replace(fakes.BOTH, text=0.2, image=0.2)
        strong = replace(fakes.BOOSTING, text=1.0, image=1.0)
        one = ask(board(weak, strong)).of("numbers")[0]
        two = ask(board(weak, strong, replace(fakes.NUMBERS, text=0.1, image=0.1))).of("numbers")[0]
        assert one.verdict == two.verdict == "worse"
        assert two.other == strong.name
        assert one.difference is not None
        assert two.difference == one.difference

    def test_without_both_the_single_inputs_are_asked_what_can_be_asked(
        self, fakes: ModuleType, board: Make
    ) -> None:
        study = ask(board(fakes.TEXT, fakes.IMAGE, fakes.MAJORITY))
        assert not study.together
        assert headline(study) == (
            "for what text and pixels add, run: candlemark fuse compare; "
            "whether text only and image only beat the numbers is not answered; "
            "text only and image only beat persistence for the next close"
        )
        assert findings(study)[0].text == (
            "Not answered: no row was shown text and image together."
        )
        assert "there is no row baseline: persistence" in findings(study)[3].text

    def test_one_input_alone_is_asked_what_was_run(self, fakes: ModuleType, board: Make) -> None:
        slow = replace(fakes.BOOSTING, text=0.05, image=0.05)
        study = ask(board(fakes.TEXT, slow, fakes.PERSISTENCE))
        assert headline(study) == (
            "for what text and pixels add, run: candlemark fuse compare; "
            "text only beats the numbers and persistence"
        )
        weak = replace(fakes.TEXT, text=0.1)
        assert (
            headline(ask(board(weak, fakes.BOOSTING)))
            .split("; ")[1]
            .startswith("text only is worse than the numbers")
        )

    def test_of_single_inputs_only_those_that_beat_the_numbers_are_named(
        self, fakes: ModuleType, board: Make
    ) -> None:
        deaf = replace(fakes.TEXT, text=0.0)
        slow = replace(fakes.BOOSTING, text=0.05, image=0.05)
        said = headline(ask(board(deaf, fakes.IMAGE, slow)))
        assert said.split("; ")[1] == "image only beats the numbers"

    def test_controls_are_never_asked(self, fakes: ModuleType, board: Make) -> None:
        study = ask(board(fakes.SHUFFLED, fakes.TEXT, fakes.IMAGE))
        assert {found.row for found in study.answers} == {fakes.TEXT.name, fakes.IMAGE.name}


class TestSeveralStudies:
    """One store holds what was trained in other ways; means are over seeds alone."""

    @staticmethod
    def made(
        fakes: ModuleType, row: Any, *, seed: int = 0, epochs: int = 5, **model: Any
    ) -> RunRecord:
        record: RunRecord = fakes.fusion_record(row, seed=seed)
        spec = {"inputs": row.inputs, "fusion": row.fusion, **model}
        trial = {**record.trial, "model": spec, "training": {"epochs": epochs}}
        return replace(record, trial_id=content_id(trial), trial=trial)

    def test_what_was_made_otherwise_is_a_row_of_its_own(self, fakes: ModuleType) -> None:
        small, large = "tiny:bert", "google/bert-base-uncased"
        (one,) = build_boards(
            [
                self.made(fakes, fakes.BOTH, text_encoder=small),
                self.made(fakes, fakes.BOTH, text_encoder=small, seed=1),
                self.made(fakes, fakes.BOTH, text_encoder=large),
                self.made(fakes, fakes.BOTH, text_encoder=large, epochs=9),
                self.made(fakes, fakes.IMAGE),
            ]
        )
        name = fakes.BOTH.name
        assert {row.name: row.seeds for row in one.rows} == {
            f"{name}, text encoder {small}, epochs 5": (0, 1),
            f"{name}, text encoder {large}, epochs 5": (0,),
            f"{name}, text encoder {large}, epochs 9": (0,),
            "image only": (0,),
        }

    def test_seeds_of_one_study_keep_its_name(self, fakes: ModuleType) -> None:
        (one,) = build_boards([self.made(fakes, fakes.TEXT, seed=seed) for seed in (0, 1)])
        assert [(row.name, row.seeds) for row in one.rows] == [("text only", (0, 1))]

    def test_a_row_is_held_against_single_inputs_made_alike(self, fakes: ModuleType) -> None:
        records = [
            self.made(fakes, row, epochs=epochs, **encoders)
            for epochs in (5, 9)
            for row, encoders in (
                (fakes.BOTH, {"text_encoder": "a", "image_encoder": "b"}),
                (fakes.IMAGE, {"image_encoder": "b"}),
                (fakes.TEXT, {"text_encoder": "a"}),
            )
        ]
        (one,) = build_boards(records)
        asked = {
            (found.question, found.row): found.other
            for found in ask(one).answers
            if found.metric == "auroc" and found.question in {"text", "pixels"}
        }
        assert asked == {
            (question, f"{fakes.BOTH.name}, epochs {epochs}"): f"{alone}, epochs {epochs}"
            for epochs in (5, 9)
            for question, alone in (("text", "image only"), ("pixels", "text only"))
        }


class TestNoAnswer:
    def test_too_few_cases(self, fakes: ModuleType, board: Make) -> None:
        study = ask(board(fakes.BOTH, fakes.TEXT, fakes.IMAGE, cases=100))
        assert set(verdicts(study).values()) == {"not answered"}
        assert headline(study) == "nothing could be compared"
        assert findings(study)[0].text == (
            "Not answered: 100 cases are 4.0 blocks of 25; an interval needs 5 blocks, 25 more "
            "cases; 98 cases are 3.9 blocks of 25; an interval needs 5 blocks, 27 more cases."
        )

    def test_a_failed_row_is_named_with_its_reason(self, fakes: ModuleType, board: Make) -> None:
        study = ask(board(fakes.BOTH, fakes.TEXT, failing=(fakes.IMAGE,)))
        assert findings(study)[0].text == (
            "Not answered: image only failed "
            "(out_of_memory: asked for 24.0 GiB, 15.6 GiB are free)."
        )
        assert verdicts(study)["pixels", "auroc"] == "yes"

    def test_a_fusion_that_failed_answers_nothing(self, fakes: ModuleType, board: Make) -> None:
        study = ask(board(fakes.TEXT, fakes.IMAGE, fakes.PERSISTENCE, failing=(fakes.BOTH,)))
        assert headline(study) == "nothing could be compared"
        assert all("failed (out_of_memory" in (found.reason or "") for found in study.answers)

    def test_a_learner_that_failed_is_told_beside_the_other(
        self, fakes: ModuleType, board: Make
    ) -> None:
        study = ask(board(fakes.BOTH, fakes.NUMBERS, failing=(fakes.BOOSTING,)))
        found = study.of("numbers")[0]
        assert found.verdict == "yes"
        assert effect(found).endswith(
            "; baseline: gradient_boosting failed "
            "(out_of_memory: asked for 24.0 GiB, 15.6 GiB are free)"
        )

    def test_rows_without_forecasts_are_compared_by_class_alone(
        self, fakes: ModuleType, board: Make
    ) -> None:
        both, image = (fakes.fusion_record(row) for row in (fakes.BOTH, fakes.IMAGE))
        (one,) = build_boards([both, replace(image, samples={})])
        text = {found.metric: found for found in ask(one).of("text")}
        assert text["auroc"].verdict == "yes"
        assert text["mase"].reason == "no forecasts of the next close are stored"

    def test_a_score_that_is_undefined_says_why(self, fakes: ModuleType) -> None:
        def still(row: Any) -> RunRecord:
            record = fakes.fusion_record(row)
            values = np.zeros_like(record.samples["log_return"])
            forecast = record.samples["forecast_log_return"]
            return replace(
                record,
                samples={**record.samples, "log_return": values},
                measurements=(
                    *(m for m in record.measurements if m.name != "mase"),
                    *score_forecast(values, forecast, block_length=25, names=["mase"]),
                ),
            )

        (one,) = build_boards([still(fakes.BOTH), still(fakes.IMAGE)])
        study = ask(one)
        for found in (*study.of("text"), *study.of("persistence")):
            if found.metric == "mase":
                assert found.reason == (
                    "undefined: no price moved (784 test cases, 0 moves, 784 forecasts of a move)"
                )

    def test_persistence_is_the_last_close_where_few_prices_move(self, fakes: ModuleType) -> None:
        record = fakes.fusion_record(fakes.PERSISTENCE)
        values = np.zeros_like(record.samples["log_return"])
        values[100:130:4] = 0.01
        (one,) = build_boards([replace(record, samples={**record.samples, "log_return": values})])
        (row,) = one.rows
        assert row.forecast is not None
        assert np.isnan(row.forecast.replicates).any()
        assert says_the_last_close(row)

    def test_other_test_cases_are_not_compared(self, fakes: ModuleType) -> None:
        (one,) = build_boards(
            [fakes.fusion_record(fakes.BOTH), fakes.fusion_record(fakes.IMAGE, cases=700)]
        )
        assert {found.reason for found in ask(one).of("text")} == {"the test cases differ"}

    def test_a_board_of_baselines_has_no_questions(self, fakes: ModuleType, board: Make) -> None:
        study = ask(board(fakes.PERSISTENCE, fakes.MAJORITY))
        assert study.answers == ()
        assert headline(study) == "nothing could be compared"
        assert {found.text for found in findings(study)} == {
            "Not answered: no row was shown text or image."
        }


class TestMarkets:
    def test_nothing_helps_on_a_random_walk(self, fakes: ModuleType, board: Make) -> None:
        walk = board(*fakes.ROWS, market="random_walk")
        assert ask(walk).found == ()
        assert alarm(ask(walk)) is None
        assert "Of its inputs" not in answer([walk])

    def test_a_walk_of_one_model_is_asked_only_what_was_run(
        self, fakes: ModuleType, board: Make
    ) -> None:
        rows = (fakes.BOTH, fakes.BOOSTING, fakes.PERSISTENCE)
        study = ask(board(*rows, market="random_walk"))
        assert {found.question for found in study.answers} == {"numbers", "persistence"}
        assert headline(study) == "together they are not shown to beat the numbers or persistence"
        assert [found.title for found in findings(study)] == [
            "Do they beat the numbers?",
            "Do they beat persistence?",
        ]

    def test_what_helps_on_a_random_walk_is_an_alarm(self, fakes: ModuleType) -> None:
        # What was planted in a real market stands in for a leak.
        records = [fakes.fusion_record(row) for row in (fakes.BOTH, fakes.TEXT, fakes.IMAGE)]
        leaks = [replace(r, facts={**r.facts, "market": "random_walk"}) for r in records]
        (walk,) = build_boards(leaks)
        said = alarm(ask(walk))
        assert said == (
            "On the random walk, where nothing can help, yes was found (Does the text help? Do "
            "the pixels help? Do they beat persistence?): it leaks."
        )
        assert said in answer([walk])

    def test_more_than_can_be_attained_is_an_alarm_on_any_market(self, fakes: ModuleType) -> None:
        rows = ((fakes.BOTH, 0.9), (fakes.TEXT, 0.55), (fakes.IMAGE, 0.9))
        (planted,) = build_boards(
            [
                fakes.fusion_record(row, attainable_by_inputs=limit, attainable_auroc=0.9)
                for row, limit in rows
            ]
        )
        study = ask(planted)
        assert study.too_good == (fakes.TEXT.name,)
        assert alarm(study) == (
            "Above what can be attained from what is shown, so something leaks: text only."
        )
        assert attainable(study) == (
            "AUROC that nothing shown these inputs can exceed: text + image (text_to_image) 0.900, "
            "text only 0.550, image only 0.900."
        )
        assert attainable(replace(study, attainable={})) is None

    def test_a_random_walk_asks_for_more(self) -> None:
        found = Answer(
            question="text",
            row="both",
            other="image only",
            metric="auroc",
            difference=Difference(metric="auroc", value=0.03, low=0.01, high=0.05, p_value=0.02),
            p_value=0.02,
        )
        assert found.verdict == "yes"
        assert replace(found, alpha=0.01).verdict == "not shown"

    def test_where_the_class_is_visible_only_the_close_is_asked(
        self, fakes: ModuleType, board: Make
    ) -> None:
        study = ask(board(*fakes.ROWS, kind="recognition"))
        assert {found.metric for found in study.answers} == {"mase"}
        assert headline(study).startswith("the text helps for the next close; the pixels help for ")

    def test_what_inputs_add_is_told_of_a_board_by_name_where_there_are_several(
        self, fakes: ModuleType, board: Make
    ) -> None:
        fusion = [fakes.fusion_record(row) for row in (fakes.BOTH, fakes.IMAGE, fakes.TEXT)]
        charts = [replace(r, trial_id=r.trial_id[::-1], trial={"task": "charts"}) for r in fusion]
        both = answer(build_boards([*fusion, *charts]))
        assert " What each input adds on BTCUSDT 1h, direction: the text helps; " in both
        assert " Of its inputs: the text helps; " in answer(build_boards(fusion))

    def test_a_picture_is_asked_for_what_a_picture_can_tell(self, fakes: ModuleType) -> None:
        limits = {"attainable_auroc": 0.95, "attainable_by_inputs": 0.68}
        (seen,) = build_boards([fakes.fusion_record(fakes.IMAGE, market="planted", **limits)])
        assert answer([seen]).startswith("Planted signal found (image only AUROC 0.661 [")

    def test_charts_and_fusion_never_share_a_board(self, fakes: ModuleType) -> None:
        fusion = fakes.fusion_record(fakes.BOTH)
        charts = replace(fusion, trial_id="other", trial={"task": "charts"})
        found = build_boards([fusion, charts])
        assert [(board.task, len(board.rows)) for board in found] == [("charts", 1), ("fusion", 1)]
        assert found[0].title != found[1].title


def test_what_rows_are_shown_keeps_no_timing_from_being_compared(fakes: ModuleType) -> None:
    def timed(row: Any, **conditions: Any) -> RunRecord:
        record: RunRecord = fakes.fusion_record(row)
        fields = {**record.environment, "device": "cpu", "threads": 2, **conditions}
        key = comparability_key({k: v for k, v in fields.items() if k != "comparability_key"})
        return replace(record, environment={**fields, "comparability_key": key})

    image = timed(fakes.IMAGE, input_shape=[3, 32, 32])
    text = timed(fakes.TEXT, sequence_length=64)
    (alike,) = build_boards([image, text])
    assert differing_fields(alike.models) == ()
    (unlike,) = build_boards([image, timed(fakes.TEXT, sequence_length=64, threads=8)])
    assert differing_fields(unlike.models) == ("threads",)


def test_a_difference_that_rounds_to_nothing_has_no_sign() -> None:
    assert signed(-0.0001, "auroc") == "0.000"
    assert signed(-0.0001, "mase") == "-0.0001"
    assert signed(0.0123, "auroc") == "+0.012"


@pytest.mark.slow
def test_where_nothing_helps_a_study_seldom_says_yes(fakes: ModuleType) -> None:
    """All questions of a board together: at most about one study in 20 finds what is not there."""
    deaf = [replace(row, text=0.0, image=0.0) for row in (fakes.BOTH, fakes.TEXT, fakes.IMAGE)]
    alarms = 0
    for seed in range(100):
        records = [fakes.fusion_record(row, seed=seed, truth_seed=seed) for row in deaf]
        (found,) = build_boards(records)
        alarms += bool(ask(found).found)
    assert alarms <= 10
