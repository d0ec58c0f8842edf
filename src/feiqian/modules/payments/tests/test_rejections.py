"""What a gateway keeps of rejected payments: for how long, how many, and each once; words for every reason."""

import ast
import re
from pathlib import Path

import pytest
import sqlalchemy as sa

from feiqian.console.languages import read_catalogue
from feiqian.index.durable import open_durable
from feiqian.modules.payments.edge import errors, reasons, rejections
from feiqian.modules.payments.edge.rejections import (
    KEPT_MS,
    METADATA,
    REJECTIONS,
    DayUsedUp,
    Rejection,
    file_rejections,
    rejections_by_uetr,
    rejections_of,
)

NOW_MS = 1_790_000_000_000
SENDER, DEBTOR, OTHER = (bytes([number]) * 32 for number in (1, 2, 3))
EDGE = Path(rejections.__file__).parent
CODE = re.compile("AGNT|(AB|AC|AG|AM|BE|DS|DT|DU|ED|FF|RC|RR|TM)[0-9A-Z]{2}")


@pytest.fixture
def engine(tmp_path: Path) -> sa.Engine:
    return open_durable(tmp_path / "payments.db", METADATA)


def rejection(number: int, *, at_ms: int = NOW_MS, reason: str = "AC03", file: str = "F-1") -> Rejection:
    uetr = number.to_bytes(16, "big")
    return Rejection(at_ms, file, uetr, 1, "125.50", "EUR", reason, "", 0, None)


def put(engine: sa.Engine, *found: Rejection, account: bytes = SENDER, debtor: bytes | None = None) -> None:
    file_rejections(engine, account, "oak", [(debtor, each) for each in found], found[0].rejected_at_ms)


def listed(engine: sa.Engine, account: bytes = SENDER, *, now_ms: int = NOW_MS, limit: int = 100) -> list[Rejection]:
    return [found for _, found in rejections_of(engine, account, None, limit, now_ms)]


def test_the_sender_and_the_debtor_find_it_newest_first(engine: sa.Engine):
    first, second = rejection(1), rejection(2, at_ms=NOW_MS + 1)
    put(engine, first, debtor=DEBTOR)
    put(engine, second)
    assert listed(engine, now_ms=NOW_MS + 1) == [second, first]
    assert listed(engine, DEBTOR) == [first]
    assert listed(engine, OTHER) == []
    assert rejections_by_uetr(engine, first.uetr, 10) == [([SENDER, DEBTOR], first)]
    assert rejections_by_uetr(engine, second.uetr, 10) == [([SENDER], second)]


def test_pages_follow_one_another(engine: sa.Engine):
    put(engine, *[rejection(number) for number in range(25)])
    seen: list[Rejection] = []
    before = None
    while rows := rejections_of(engine, SENDER, before, 10, NOW_MS):
        seen += [found for _, found in rows]
        before = (rows[-1][1].rejected_at_ms, rows[-1][0])
    assert [int.from_bytes(found.uetr, "big") for found in seen] == list(range(24, -1, -1))


def test_the_same_file_again_moves_its_rejections_to_the_top(engine: sa.Engine):
    put(engine, rejection(1), rejection(2))
    again = rejection(1, at_ms=NOW_MS + 5)
    put(engine, again)
    assert listed(engine, now_ms=NOW_MS + 5) == [again, rejection(2)]
    other = rejection(1, at_ms=NOW_MS + 6, reason="AM05")
    put(engine, other)
    assert listed(engine, now_ms=NOW_MS + 6) == [other, again, rejection(2)]


def test_they_are_kept_for_ninety_days(engine: sa.Engine):
    put(engine, rejection(1))
    assert len(listed(engine, now_ms=NOW_MS + KEPT_MS)) == 1
    assert listed(engine, now_ms=NOW_MS + KEPT_MS + 1) == []
    put(engine, rejection(2, at_ms=NOW_MS + KEPT_MS + 1))
    with engine.connect() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(REJECTIONS)).scalar_one() == 1


def test_an_account_keeps_its_latest_and_a_member_files_so_many_a_day(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(rejections, "KEPT_OF_ACCOUNT", 3)
    for number in range(5):
        put(engine, rejection(number, at_ms=NOW_MS + number))
    assert [found.rejected_at_ms - NOW_MS for found in listed(engine, now_ms=NOW_MS + 5)] == [4, 3, 2]
    monkeypatch.setattr(rejections, "MEMBER_DAY", 4)
    with pytest.raises(DayUsedUp):
        put(engine, rejection(7, at_ms=NOW_MS + 9), rejection(8, at_ms=NOW_MS + 9))
    assert len(listed(engine, now_ms=NOW_MS + 9)) == 3
    put(engine, rejection(9, at_ms=NOW_MS + rejections.DAY_MS + 9), rejection(10, at_ms=NOW_MS + rejections.DAY_MS + 9))


def test_every_reason_that_a_report_may_give_has_words_in_both_languages():
    """Codes are taken from the sources: whatever literal of four capitals stands where reasons do."""
    given = {*reasons.REASONS.values(), reasons.UNSPECIFIED}
    given |= {error.reason for error in errors.ERRORS if error.reason is not None}
    for name in ("importer.py", "resolution.py", "pain001.py"):
        tree = ast.parse((EDGE / name).read_text("utf-8"))
        literals = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
        given |= {text for text in literals if isinstance(text, str) and CODE.fullmatch(text)}
    # Of a payment that waits; ACTC and ACSC are no reasons.
    given -= {"DS0A", "ACTC", "ACSC"}
    assert len(given) >= 30
    for language in ("en", "zh"):
        words = {key for key in read_catalogue(language) if key.startswith("reason.")}
        assert words == {f"reason.{code}" for code in given}
