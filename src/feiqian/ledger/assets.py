"""Assets: what balances count, who issues and who controls them. Their rules on movements are in `postings`."""

from feiqian.core.addresses import to_text
from feiqian.core.encoding import AssetId, Codec, encode
from feiqian.core.errors import CoreError
from feiqian.ledger.authority import require_account
from feiqian.ledger.balances import BALANCES, balance_key
from feiqian.ledger.context import Context
from feiqian.ledger.errors import AssetExists, AssetUnknown, MalformedAsset, NotController, NotIssuer
from feiqian.ledger.events import AssetDefined
from feiqian.ledger.members import require_active
from feiqian.ledger.records import Asset, Balance
from feiqian.state.tables import Overlay, Table

ASSETS: Table[Asset] = Table("ledger.assets", Asset)

_ASSET_ID: Codec[str] = Codec(AssetId, "asset code")


def define_asset(ctx: Context, code: str, asset: Asset) -> None:
    """Bring an asset into being; its issuance account gets the supply cap as its limit, and a place on the list.

    Raises:
        AssetExists: the code is taken.
        MalformedAsset: out of form, or the issuance account is not the issuer's.
        MemberUnknown, MemberSuspended, AccountUnknown: issuer, issuance account or controller.
    """
    try:
        _ASSET_ID.decode(encode(code))
        ASSETS.codec.decode(encode(asset))
    except CoreError as error:
        raise MalformedAsset(f"asset {code[:48]!r}: {error.message}") from None
    if ASSETS.get(ctx.state, code.encode()) is not None:
        raise AssetExists(f"asset {code} is already defined; choose another code")
    require_active(ctx.state, asset.issuer)
    if require_account(ctx.state, asset.issuance_account).member != asset.issuer:
        raise MalformedAsset(f"asset {code}: the issuance account is not an account of issuer {asset.issuer!r}")
    if asset.controller is not None:
        require_account(ctx.state, asset.controller)
    if asset.is_freezable and asset.controller is None:
        raise MalformedAsset(f"asset {code}: a freezable asset names the controller that may freeze")
    ASSETS.put(ctx.state, code.encode(), asset)
    BALANCES.put(
        ctx.state,
        balance_key(asset.issuance_account, code),
        Balance(0, 0, asset.supply_cap_minor, False, asset.is_allow_listed),
    )
    ctx.emit(AssetDefined(code, asset))


def require_asset(state: Overlay, code: str) -> Asset:
    """Return the asset.

    Raises:
        AssetUnknown: no asset has this code.
    """
    asset = ASSETS.get(state, code.encode())
    if asset is None:
        raise AssetUnknown(f"asset {code[:48]!r} is not defined")
    return asset


def require_controller(state: Overlay, code: str, address: bytes) -> Asset:
    """Return the asset, whose controller is the account at `address`.

    Raises:
        AssetUnknown, NotController.
    """
    asset = require_asset(state, code)
    if asset.controller != address:
        controller = "none" if asset.controller is None else to_text(asset.controller)
        raise NotController(f"asset {code}: its controller is {controller}, not {to_text(address)}")
    return asset


def require_issuer(state: Overlay, code: str, address: bytes) -> Asset:
    """Return the asset, whose issuance account is the one at `address`.

    Raises:
        AssetUnknown, NotIssuer.
    """
    asset = require_asset(state, code)
    if asset.issuance_account != address:
        raise NotIssuer(f"asset {code}: only its issuance account may do this, not {to_text(address)}")
    return asset
