"""Of CometBFT's log of votes go the files that were whole two heights ago, never the one that is written."""

from pathlib import Path

from feiqian.node.comet.votelog import VoteLog

# As libs/autofile/group.go names them: a head, and whole files by number.


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_files_go_once_the_ledger_is_two_heights_beyond_them(tmp_path: Path) -> None:
    for name in ("wal", "wal.000", "wal.001", "wal.bak"):
        (tmp_path / name).touch()
    log = VoteLog(tmp_path)
    log.look(10)
    (tmp_path / "wal.002").touch()
    log.look(11)
    assert names(tmp_path) == ["wal", "wal.000", "wal.001", "wal.002", "wal.bak"]
    log.look(12)
    assert names(tmp_path) == ["wal", "wal.002", "wal.bak"]
    # CometBFT deletes some itself where there is a gigabyte of them.
    (tmp_path / "wal.002").unlink()
    log.look(14)
    assert names(tmp_path) == ["wal", "wal.bak"]


def test_a_halted_chain_keeps_all(tmp_path: Path) -> None:
    (tmp_path / "wal.000").touch()
    log = VoteLog(tmp_path)
    for _ in range(5):
        log.look(7)
    assert names(tmp_path) == ["wal.000"]


def test_no_folder_is_no_error(tmp_path: Path) -> None:
    log = VoteLog(tmp_path / "cs.wal")
    log.look(5)
    log.look(9)
