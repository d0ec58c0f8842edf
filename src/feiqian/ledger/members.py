"""Members: the institutions that governance admitted, and whether they may act."""

from feiqian.core.encoding import Codec, MemberId, encode
from feiqian.core.errors import CoreError
from feiqian.ledger.context import Context
from feiqian.ledger.errors import MalformedMember, MemberExists, MemberSuspended, MemberUnknown
from feiqian.ledger.events import MemberAdded, MemberChanged
from feiqian.ledger.records import Member
from feiqian.state.tables import Overlay, Table

MEMBERS: Table[Member] = Table("ledger.members", Member)

_MEMBER_ID: Codec[str] = Codec(MemberId, "member id")


def require_member(state: Overlay, member_id: str) -> Member:
    """Return the member.

    Raises:
        MemberUnknown: no member has this id.
    """
    member = MEMBERS.get(state, member_id.encode())
    if member is None:
        raise MemberUnknown(f"member {member_id!r} is not admitted")
    return member


def require_active(state: Overlay, member_id: str) -> Member:
    """Return the member, which may act.

    Raises:
        MemberUnknown: no member has this id.
        MemberSuspended: it may not act now.
    """
    member = MEMBERS.get(state, member_id.encode())
    if member is None:
        raise MemberUnknown(f"member {member_id!r} is not admitted")
    if member.is_suspended:
        raise MemberSuspended(f"member {member_id!r} is suspended and may not act until governance lifts it")
    return member


def add_member(ctx: Context, member_id: str, member: Member) -> None:
    """Admit a member.

    Raises:
        MalformedMember: id or record out of form.
        MemberExists: the id is taken.
    """
    _check(member_id, member)
    if MEMBERS.get(ctx.state, member_id.encode()) is not None:
        raise MemberExists(f"member {member_id!r} is already admitted; choose another id")
    MEMBERS.put(ctx.state, member_id.encode(), member)
    ctx.emit(MemberAdded(member_id, member))


def set_member(ctx: Context, member_id: str, member: Member) -> None:
    """Replace a member's record.

    Raises:
        MemberUnknown: no member has this id.
        MalformedMember: the record is out of form.
    """
    require_member(ctx.state, member_id)
    _check(member_id, member)
    MEMBERS.put(ctx.state, member_id.encode(), member)
    ctx.emit(MemberChanged(member_id, member))


def _check(member_id: str, member: Member) -> None:
    # Records made in Python (genesis, governance) pass the same constraints as decoded ones.
    try:
        _MEMBER_ID.decode(encode(member_id))
        MEMBERS.codec.decode(encode(member))
    except CoreError as error:
        raise MalformedMember(f"member {member_id[:40]!r}: {error.message}") from None
    if len(set(member.roles)) != len(member.roles):
        raise MalformedMember(f"member {member_id!r}: a role stands twice in {list(member.roles)}")
