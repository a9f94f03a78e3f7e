"""The review page in a browser, by its keys, as a reviewer uses it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from storage.labels.decisions import Decision, read_decisions
from storage.tables.beats import read_beats
from tests.review import CHROMIUM, HOSTILE, Served, chromium, fill, visits
from tests.services import free_port

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium")
RECORD = "/record/simulated/sim001"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("review")
        for name in ("HOLTER_BEATS", "HOLTER_HOSTS", "MLFLOW_TRACKING_URI", "PREFECT_API_URL"):
            patch.delenv(name, raising=False)
        patch.setenv("HOLTER_HOME", str(home))
        server = Served(fill(home), free_port())
        server.start()
        yield server
        server.kill()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def visit(served: Served, browser: Any) -> Iterator[Callable[..., Any]]:
    """Opens a page as a person; a script that fails fails the test."""
    with visits(served, browser) as visit:
        yield visit


def made(record: str = "sim001") -> list[Decision]:
    return list(read_decisions("simulated", record))


def press(page: Any, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def passage_s(page: Any) -> tuple[float, float]:
    """The passage that the page shows, in seconds."""
    first, _, second = page.inner_text("#passage").partition(" – ")
    return _seconds(first), _seconds(second.split()[0])


def _seconds(text: str) -> float:
    hours, minutes, seconds = text.split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def wait_saved(page: Any, count: int) -> None:
    """Wait until the page lists so many decisions, and none waits to be sent."""
    page.wait_for_selector(f"#decisions li:nth-child({count})")
    page.wait_for_selector("#status:not(.fault)")


def episodes_s(home: Path) -> list[float]:
    """Where AF begins by truth in the record, as the table has it."""
    table = read_beats(home / "beats" / "dataset=simulated" / "sim001.parquet", waveform=False)
    return [
        float(table.time_s[n])
        for n in range(len(table))
        if table.label[n] == 1 and (n == 0 or table.label[n - 1] != 1)
    ]


def test_a_day_is_opened_an_episode_corrected_and_the_decision_shown(
    served: Served, visit: Callable[..., Any]
) -> None:
    """By keys alone: to an episode, its limits drawn in, decided; it is stored, and shown."""
    page = visit(f"{RECORD}?at=0")
    page.wait_for_selector("#ecg[data-drawn]")
    page.wait_for_selector("#day[data-drawn]")
    assert "AF by annotation" in page.inner_text("#status")
    press(page, "e")
    start, end = passage_s(page)
    assert any(abs(start - one) < 15 for one in episodes_s(served.home))  # truth or model
    press(page, "ArrowRight", "]")  # the end is drawn in to the middle of the next strip
    shorter = passage_s(page)
    assert shorter[0] == start
    assert start < shorter[1] < end
    press(page, "m")
    page.keyboard.type("ends <b>early</b>")
    press(page, "Escape", "c")
    wait_saved(page, 2)
    kept, rest = made()
    assert (kept.verdict, kept.rhythm, kept.reviewer) == ("correct", "AFIB", "ada")
    assert abs(kept.start - 250 * shorter[0]) <= 1
    assert abs(kept.end - 250 * shorter[1]) <= 1
    assert (rest.rhythm, rest.start) == ("N", kept.end)
    assert abs(rest.end - 250 * end) <= 1
    assert kept.remark == "ends <b>early</b>"
    assert "ends <b>early</b>" in page.inner_text("#decisions")
    assert page.query_selector("#decisions b") is None


def test_each_verdict_has_a_key(visit: Callable[..., Any]) -> None:
    """Accept, reject, flutter and cannot tell are one key each, and say what the passage is."""
    page = visit("/record/simulated/sim000?passage=10-20")
    for number, key in enumerate("arfu", start=1):
        press(page, key)
        wait_saved(page, number)
    decisions = made("sim000")
    assert [one.rhythm for one in decisions] == ["AFIB", "N", "AFL", ""]
    assert {(one.start, one.end) for one in decisions} == {(2500, 5000)}
    assert len({one.id for one in decisions}) == 4


def test_nothing_is_decided_without_a_passage_or_a_role(visit: Callable[..., Any]) -> None:
    """A key without a passage, and a reader's key, store nothing and say why."""
    before = len(made())
    page = visit(f"{RECORD}?at=30")
    press(page, "a")
    page.wait_for_selector("#status.fault:has-text('Choose a passage')")
    reader = visit(f"{RECORD}?passage=10-20", "rita")
    press(reader, "a")
    reader.wait_for_selector("#status.fault:has-text('not decide')")
    assert len(made()) == before


def test_a_server_that_is_killed_while_saving_loses_and_doubles_nothing(
    served: Served, visit: Callable[..., Any]
) -> None:
    """A decision outlives the server, and the answer that did not come; it is kept once."""
    page, before = visit(f"{RECORD}?passage=40-50"), len(made())
    served.kill()
    press(page, "r")
    page.wait_for_selector("#status.fault:has-text('Not saved yet')")
    assert len(made()) == before
    served.start()
    page.wait_for_selector("#status:text-is('Saved.')")
    assert len(made()) == before + 1
    lost: list[int] = []

    def stored_without_an_answer(route: Any) -> None:
        if lost:
            route.continue_()
            return
        lost.append(route.fetch().status)
        route.abort()

    page.route("**/decisions", stored_without_an_answer)
    press(page, "u")
    page.wait_for_selector("#status.fault:has-text('Not saved yet')")
    page.wait_for_selector("#status:text-is('Saved.')")
    assert lost == [200]
    assert len(made()) == before + 2


def test_two_reviewers_at_once_see_each_other(visit: Callable[..., Any]) -> None:
    """What one decides the other's page shows by itself; who disagrees is kept beside."""
    before = len(made())
    ada, grace = visit(f"{RECORD}?passage=60-70"), visit(f"{RECORD}?passage=60-70", "grace")
    press(ada, "a")
    grace.wait_for_selector(f"#decisions li:nth-child({before + 1}) >> text=ada")
    press(grace, "r")
    ada.wait_for_selector("#decisions li:nth-child(1) >> text=grace")
    first, second = made()[before:]
    assert (first.reviewer, first.rhythm) == ("ada", "AFIB")
    assert (second.reviewer, second.rhythm) == ("grace", "N")
    assert (first.start, first.end) == (second.start, second.end)


def test_the_queue_is_gone_through_by_keys(visit: Callable[..., Any]) -> None:
    """From the queue a key opens a passage, whose record shows it, and a key the next one."""
    page = visit("/queue/simulated")
    page.wait_for_selector("#cases a")
    page.wait_for_selector("#status:has-text('passages to look at')")
    press(page, "ArrowDown", "Enter")
    page.wait_for_selector("body.record[data-ready]")
    page.wait_for_selector("#queue li.here")
    before = page.inner_text("#passage")
    assert before != "none"
    press(page, "j")
    if page.locator("#queue li").count() > 1:
        page.wait_for_selector(f"#passage:not(:has-text('{before}'))")


@pytest.mark.parametrize("path", ["/", "/queue/simulated", RECORD])
def test_a_phone_shows_the_whole_width(visit: Callable[..., Any], path: str) -> None:
    """At 390 pixels nothing of a page lies beside the screen."""
    page = visit(path, width=390)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_hostile_names_are_shown_as_text(visit: Callable[..., Any]) -> None:
    """A record's name that is markup is text on its page, and a record without signal opens."""
    page = visit("/queue/hostile")
    page.click("summary")
    page.click(f'a:has-text("{HOSTILE[:3]}")')
    page.wait_for_selector("body.record[data-ready]")
    assert HOSTILE in page.inner_text("h1")
    assert page.query_selector("#made-up") is None
    assert "no signal here" in page.inner_text("#notes")
