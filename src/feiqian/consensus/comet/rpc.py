"""A client of CometBFT's own RPC on loopback: headers, commits, validators, and how consensus fares. It only reads."""

from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple, TypeVar

import httpx
import msgspec
from msgspec import Meta

from feiqian.consensus import comet_json
from feiqian.consensus.comet_json import CommitJson, HeaderJson, KeyJson, MalformedJson, ValidatorJson, ValidatorSetJson
from feiqian.consensus.headers import Commit, Header, ValidatorSet

MAX_ANSWER_BYTES = 64 * 2**20
"""The state of consensus shows the block that is voted on three times, as text."""

RELAYED_BYTES = 4 * 2**20
"""What is passed on to others: a commit of CometBFT's most validators, 10,000, is 3 MB."""

TIMEOUT_S = 10.0
_PAGE = 100
"""The most validators that CometBFT puts on a page (rpc/core/env.go)."""

_HIGHEST = 2**63 - 1

T = TypeVar("T")


class RpcError(Exception):
    """CometBFT's RPC did not give what was asked; which of the kinds below says whether to ask again."""


class RpcAway(RpcError):
    """Nobody answers, or not in time: CometBFT is starting, busy or gone."""


class NotThere(RpcError):
    """It does not have what was asked: a height that is not decided yet, or one that it has pruned."""


class RpcMalformed(RpcError):
    """What came is not in CometBFT's form, or too large."""


class SignedHeader(NamedTuple):
    """A height's header and a commit on it.

    `is_canonical`: the commit is the one that the next block holds; else what this node saw, until there is a next one.
    """

    header: Header
    commit: Commit
    is_canonical: bool


class Status(NamedTuple):
    """Where CometBFT stands. `node_id` and `chain_id` are its own; heights are 0 where it has no block."""

    node_id: str
    chain_id: str
    first_height: int
    last_height: int
    is_catching_up: bool


class Peer(NamedTuple):
    """A node that CometBFT is connected to."""

    node_id: str
    name: str
    address: str
    is_outbound: bool


class RoundState(NamedTuple):
    """What a node votes on: height, round (-1: not known), step by CometBFT's numbers, 1 (new height) to 8 (commit)."""

    height: int
    round: int
    step: int


class PeerRound(NamedTuple):
    """What a peer votes on, as far as it told; `node_id` names it."""

    node_id: str
    state: RoundState


class ConsensusState(NamedTuple):
    """What this node and its peers vote on."""

    own: RoundState
    peers: tuple[PeerRound, ...]


class BlockParams(NamedTuple):
    """Consensus parameters that an application changes: the limits that headers commit to, and its own version."""

    max_bytes: int
    max_gas: int
    app_version: int


class CometRpc:
    """Asks one node; belongs to one event loop."""

    def __init__(self, url: str, *, timeout_s: float = TIMEOUT_S) -> None:
        """`url`: such as `http://127.0.0.1:26657`."""
        self._url = url
        self._client = httpx.AsyncClient(timeout=timeout_s, trust_env=False)

    async def close(self) -> None:
        """Let go of the connection."""
        await self._client.aclose()

    async def relay(self, method: str, params: Mapping[str, str], number: int) -> bytes:
        """Return the answer to a call of this number as it came, an error's too. Raises: RpcAway, RpcMalformed."""
        call = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
        return await self._post(method, msgspec.json.encode(call), RELAYED_BYTES)

    async def status(self) -> Status:
        """Return where CometBFT stands. Raises: RpcError."""
        found = await self._ask("status", {}, _StatusJson)
        sync = found.sync_info
        return Status(
            found.node_info.id,
            found.node_info.network,
            _height(sync.earliest_block_height, "earliest_block_height"),
            _height(sync.latest_block_height, "latest_block_height"),
            sync.catching_up,
        )

    async def commit(self, height: int) -> SignedHeader:
        """Return header and commit of a height.

        Raises:
            NotThere: the height is not decided yet, or was pruned.
            RpcError: away or malformed.
        """
        found = await self._ask("commit", {"height": str(height)}, _CommitAnswerJson | None)
        if found is None or found.signed_header.header is None or found.signed_header.commit is None:
            raise NotThere(f"commit: height {height} is not held")
        try:
            header = comet_json.read_header(found.signed_header.header)
            commit = comet_json.read_commit(found.signed_header.commit)
        except MalformedJson as error:
            raise RpcMalformed(f"commit: {error}") from None
        if header.height != height or commit.height != height:
            raise RpcMalformed(f"commit: height {height} was asked for; header {header.height}, commit {commit.height}")
        return SignedHeader(header, commit, found.canonical)

    async def validators(self, height: int) -> ValidatorSet:
        """Return the validators that decide a height, in CometBFT's order.

        Raises:
            NotThere: the height is not known yet, or was pruned.
            RpcError: away or malformed.
        """
        given: list[ValidatorJson] = []
        total = 1
        while len(given) < total:
            params = {"height": str(height), "page": str(len(given) // _PAGE + 1), "per_page": str(_PAGE)}
            found = await self._ask("validators", params, _ValidatorsJson)
            total = _integer(found.total, "validators: total", 1, comet_json.MAX_VALIDATORS)
            if _height(found.block_height, "block_height") != height or not 0 < len(found.validators) <= _PAGE:
                raise RpcMalformed(f"validators: not the page of height {height} that was asked for")
            given += [ValidatorJson(each.address, each.pub_key, each.voting_power) for each in found.validators]
        if len(given) != total:
            raise RpcMalformed(f"validators: {len(given)} given, {total} announced")
        try:
            return comet_json.read_validators(ValidatorSetJson(tuple(given)))
        except MalformedJson as error:
            raise RpcMalformed(f"validators: {error}") from None

    async def params(self, height: int) -> BlockParams:
        """Return the consensus parameters in force at a height.

        Raises:
            NotThere: the height is not known yet, or was pruned.
            RpcError: away or malformed.
        """
        found = (await self._ask("consensus_params", {"height": str(height)}, _ParamsAnswerJson)).consensus_params
        block = found.block
        return BlockParams(
            _limit(block.max_bytes, "max_bytes"),
            _limit(block.max_gas, "max_gas"),
            _integer(found.version.app, "version.app", 0, 2**64 - 1),
        )

    async def peers(self) -> tuple[Peer, ...]:
        """Return the nodes that CometBFT is connected to. Raises: RpcError."""
        found = await self._ask("net_info", {}, _NetInfoJson)
        return tuple(
            [Peer(peer.node_info.id, peer.node_info.moniker, peer.remote_ip, peer.is_outbound) for peer in found.peers]
        )

    async def consensus_state(self) -> ConsensusState:
        """Return what this node and its peers vote on, for a watch on a height that stands still. Raises: RpcError."""
        found = await self._ask("dump_consensus_state", {}, _ConsensusJson)
        peers = tuple(
            [
                PeerRound(peer.node_address.partition("@")[0], _round_state(peer.peer_state.round_state))
                for peer in found.peers
            ]
        )
        return ConsensusState(_round_state(found.round_state), peers)

    async def _ask(self, method: str, params: dict[str, str], type_: type[T] | Any) -> Any:
        request = msgspec.json.encode({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        data = await self._post(method, request)
        try:
            answer = msgspec.json.decode(data, type=_Answer)
            if answer.error is not None:
                raise _refusal(method, answer.error)
            return msgspec.json.decode(answer.result, type=type_)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise RpcMalformed(f"{method}: {str(error)[:200]}") from None

    async def _post(self, method: str, request: bytes, most_bytes: int | None = None) -> bytes:
        most_bytes = MAX_ANSWER_BYTES if most_bytes is None else most_bytes
        data = bytearray()
        try:
            async with self._client.stream(
                "POST", self._url, content=request, headers={"content-type": "application/json"}
            ) as response:
                async for piece in response.aiter_bytes():
                    data += piece
                    if len(data) > most_bytes:
                        raise RpcMalformed(f"{method}: an answer of over {most_bytes} bytes")
        except httpx.TransportError as error:
            raise RpcAway(f"{method}: {type(error).__name__}: {str(error)[:200]}") from None
        except httpx.DecodingError as error:
            raise RpcMalformed(f"{method}: {str(error)[:200]}") from None
        return bytes(data)


class _Error(msgspec.Struct):
    code: int
    message: str
    data: str = ""


class _Answer(msgspec.Struct, forbid_unknown_fields=True):
    jsonrpc: str
    id: int
    result: msgspec.Raw = msgspec.Raw(b"null")
    error: _Error | None = None


class _SignedHeaderJson(msgspec.Struct, forbid_unknown_fields=True):
    header: HeaderJson | None
    commit: CommitJson | None


class _CommitAnswerJson(msgspec.Struct, forbid_unknown_fields=True):
    signed_header: _SignedHeaderJson
    canonical: bool


class _ValidatorJson(msgspec.Struct, forbid_unknown_fields=True):
    address: str
    pub_key: KeyJson
    voting_power: str
    proposer_priority: str


class _ValidatorsJson(msgspec.Struct, forbid_unknown_fields=True):
    block_height: str
    validators: Annotated[tuple[_ValidatorJson, ...], Meta(max_length=_PAGE)]
    count: str
    total: str


class _NodeInfoJson(msgspec.Struct):
    id: str
    network: str
    moniker: str


class _SyncInfoJson(msgspec.Struct):
    latest_block_height: str
    earliest_block_height: str
    catching_up: bool


class _StatusJson(msgspec.Struct):
    node_info: _NodeInfoJson
    sync_info: _SyncInfoJson


class _PeerJson(msgspec.Struct):
    node_info: _NodeInfoJson
    is_outbound: bool
    remote_ip: str


class _NetInfoJson(msgspec.Struct):
    peers: tuple[_PeerJson, ...]


class _RoundStateJson(msgspec.Struct):
    height: str
    round: int
    step: int


class _PeerStateJson(msgspec.Struct):
    round_state: _RoundStateJson


class _PeerRoundJson(msgspec.Struct):
    node_address: str
    peer_state: _PeerStateJson


class _ConsensusJson(msgspec.Struct):
    round_state: _RoundStateJson
    peers: tuple[_PeerRoundJson, ...]


class _BlockParamsJson(msgspec.Struct):
    max_bytes: str
    max_gas: str


class _VersionParamsJson(msgspec.Struct):
    app: str = "0"


class _ParamsJson(msgspec.Struct):
    block: _BlockParamsJson
    version: _VersionParamsJson


class _ParamsAnswerJson(msgspec.Struct):
    block_height: str
    consensus_params: _ParamsJson


def _refusal(method: str, error: _Error) -> RpcError:
    """Return what an error answer means; the texts are CometBFT's (rpc/core/env.go, state/errors.go)."""
    text = f"{error.message} {error.data}"
    for sign in ("must be less than or equal to", "is not available", "could not find"):
        if sign in text:
            return NotThere(f"{method}: {error.data[:200]}")
    return RpcAway(f"{method}: {text[:200]}")


def _round_state(value: _RoundStateJson) -> RoundState:
    return RoundState(_height(value.height, "round_state.height"), value.round, value.step)


def _height(text: str, where: str) -> int:
    return _integer(text, where, 0, _HIGHEST)


def _limit(text: str, where: str) -> int:
    return -1 if text == "-1" else _integer(text, where, 0, _HIGHEST)


def _integer(text: str, where: str, low: int, high: int) -> int:
    try:
        return comet_json.read_integer(text, where, low, high)
    except MalformedJson as error:
        raise RpcMalformed(str(error)) from None
