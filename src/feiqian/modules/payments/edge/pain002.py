"""Writes customer payment status reports: pain.002.001.03 in answer to a pain.001.001.03, pain.002.001.12 otherwise.

No package ships the XSD of pain.002.001.10, the version that accompanied pain.001.001.09; .12 accompanies .11.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from feiqian.modules.payments.edge import schemas
from feiqian.modules.payments.edge.instructions import Batch, Instruction, PaymentFile

SETTLED = "ACSC"
PENDING = "PDNG"
REJECTED = "RJCT"
RECEIVED = "RCVD"
PARTLY = "PART"

MAX_WORDS = 105
"""ISO 20022 Max105Text of AddtlInf."""


class Outcome(Struct, frozen=True):
    """What became of one instruction. `reason` is an ExternalStatusReason1Code, `words` say it in full.

    `codespace` and `number` name the broken rule; `tx_id` is set once a transaction was made, `uetr` always, and
    `debtor_account` once it is known.
    """

    instruction: Instruction
    status: str
    reason: str | None = None
    words: str | None = None
    codespace: str | None = None
    number: int | None = None
    tx_id: bytes | None = None
    uetr: str | None = None
    debtor_account: bytes | None = None


class Refusal(Struct, frozen=True):
    """Why a whole file is refused."""

    reason: str
    words: str
    codespace: str
    number: int


def version_for(message: str) -> str:
    """Return the status report that answers a version of pain.001."""
    return "pain.002.001.03" if message == "pain.001.001.03" else "pain.002.001.12"


def write_report(file: PaymentFile, outcomes: Sequence[Outcome], report_id: str, created_at: str) -> bytes:
    """Return the report on every payment of a file; `created_at` is ISO 8601 with offset or Z."""
    by_batch: dict[str, list[Outcome]] = {batch.id: [] for batch in file.batches}
    for outcome in outcomes:
        by_batch[outcome.instruction.batch_id].append(outcome)
    statuses = [outcome.status for outcome in outcomes]
    group = _group(file) | {"grp_sts": group_status(statuses), "nb_of_txs_per_sts": _counts(file, outcomes)}
    batches = [_batch(file, batch, by_batch[batch.id]) for batch in file.batches]
    return _write(file, group, batches, report_id, created_at)


def write_refusal(file: PaymentFile, refusal: Refusal, report_id: str, created_at: str) -> bytes:
    """Return the report that refuses a whole file."""
    group = _group(file) | {"grp_sts": REJECTED, "sts_rsn_inf": [_reason(refusal.reason, refusal.words)]}
    return _write(file, group, [], report_id, created_at)


def group_status(statuses: Sequence[str]) -> str:
    """Return what a group's status is by its payments': theirs where all agree, else partly accepted."""
    distinct = set(statuses)
    if len(distinct) == 1:
        return statuses[0]
    return PARTLY if distinct else RECEIVED


def _group(file: PaymentFile) -> dict[str, Any]:
    return {
        "orgnl_msg_id": file.message_id,
        "orgnl_msg_nm_id": file.message,
        "orgnl_cre_dt_tm": file.created_at,
        "orgnl_nb_of_txs": str(file.count),
        "orgnl_ctrl_sum": file.control_sum,
    }


def _counts(file: PaymentFile, outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    counts = Counter(outcome.status for outcome in outcomes)
    return [{"dtld_nb_of_txs": str(counts[status]), "dtld_sts": status} for status in sorted(counts)]


def _batch(file: PaymentFile, batch: Batch, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    return {
        "orgnl_pmt_inf_id": batch.id,
        "orgnl_nb_of_txs": str(len(batch.instructions)),
        "orgnl_ctrl_sum": batch.control_sum,
        "pmt_inf_sts": group_status([outcome.status for outcome in outcomes]),
        "tx_inf_and_sts": [_transaction(file, outcome) for outcome in outcomes],
    }


def _transaction(file: PaymentFile, outcome: Outcome) -> dict[str, Any]:
    instruction = outcome.instruction
    values: dict[str, Any] = {
        "orgnl_instr_id": instruction.instruction_id,
        "orgnl_end_to_end_id": instruction.end_to_end_id,
        "tx_sts": outcome.status,
    }
    if outcome.reason is not None:
        values["sts_rsn_inf"] = [_reason(outcome.reason, outcome.words or "")]
    if version_for(file.message) != "pain.002.001.03":
        values["orgnl_uetr"] = instruction.uetr or outcome.uetr
    return values


def _reason(code: str, words: str) -> dict[str, Any]:
    lines = [words[start : start + MAX_WORDS] for start in range(0, min(len(words), 4 * MAX_WORDS), MAX_WORDS)]
    return {"rsn": {"cd": code}, "addtl_inf": lines}


def _write(
    file: PaymentFile, group: dict[str, Any], batches: list[dict[str, Any]], report_id: str, created_at: str
) -> bytes:
    report = {
        "grp_hdr": {"msg_id": report_id, "cre_dt_tm": created_at},
        "orgnl_grp_inf_and_sts": group,
        "orgnl_pmt_inf_and_sts": batches,
    }
    return schemas.write(version_for(file.message), {"cstmr_pmt_sts_rpt": report})
