"""What a height changes of that which consensus itself carries out, and so must be told."""

from typing import NamedTuple

from feiqian.ledger.parameters import PARAMETERS, PARAMETERS_KEY, get_parameters
from feiqian.ledger.validators import validator_updates
from feiqian.state.tables import BlockState, Changes


class Updates(NamedTuple):
    """Validators as (Ed25519 key, power) in key order, power 0: removed; of the parameters what is new, else None."""

    validators: tuple[tuple[bytes, int], ...]
    max_block_bytes: int | None
    app_version: int | None


def updates_of(before: BlockState, changes: Changes) -> Updates:
    """Return what a block's changes to the state `before` it mean for consensus; empty where they mean nothing."""
    former = get_parameters(before)
    data = changes.get(PARAMETERS.prefix + PARAMETERS_KEY)
    parameters = former if data is None else PARAMETERS.codec.decode_trusted(data)
    return Updates(
        validator_updates(before, changes),
        None if parameters.max_block_bytes == former.max_block_bytes else parameters.max_block_bytes,
        None if parameters.app_version == former.app_version else parameters.app_version,
    )
