"""The time left is told from what was timed, and guessed for work that was not begun."""

from steering.pace import Pace


def make_pace() -> Pace:
    return Pace(
        {"answering": 10, "recording": 10, "calibrating": 10},
        answer_tokens=26,
        calibration_tokens=10,
    )


def test_nothing_is_known_before_anything_was_timed() -> None:
    pace = make_pace()

    assert pace.left_s is None
    assert pace.fraction == 0


def test_work_that_was_not_begun_is_told_from_what_was_timed() -> None:
    pace = make_pace()  # costs: 26 an answer, 20 a recorded one, 21.6 a calibrated one

    pace.advance("answering", 5, 10, seconds=26)

    assert pace.left_s is not None
    assert abs(pace.left_s - (26 + 10 * 4.0 + 10 * 4.32)) < 1e-6
    assert abs(pace.fraction - 26 / (26 + pace.left_s)) < 1e-6


def test_what_was_read_from_a_file_does_not_count_as_quick() -> None:
    pace = make_pace()

    pace.advance("answering", 4, 10, seconds=0.001)
    assert pace.left_s is None
    pace.advance("answering", 5, 10, seconds=3)

    assert pace.left_s is not None
    assert pace.left_s > 5 * 3


def test_a_trial_counts_until_the_work_itself_is_timed() -> None:
    pace = make_pace()
    pace.guess("answering", 7)
    pace.guess("recording", 1)
    pace.advance("calibrating", 10, 10, seconds=100)

    assert pace.left_s == 10 * 7 + 10 * 1
    pace.advance("answering", 1, 10, seconds=2)
    assert pace.left_s == 9 * 2 + 10 * 1


def test_all_done_is_nothing_left_even_where_less_was_needed() -> None:
    pace = make_pace()
    for work in ("answering", "recording"):
        pace.advance(work, 10, 10, seconds=1)  # type: ignore[arg-type]  # kinds of work
    pace.advance("calibrating", 4, 4, seconds=1)

    assert pace.left_s == 0
    assert pace.fraction == 1
    pace.begin_anew()
    assert pace.fraction == 0
