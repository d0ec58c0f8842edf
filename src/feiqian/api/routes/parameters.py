"""The parameters that routes share, each with its form and limits."""

from typing import Annotated

from litestar.di import NamedDependency
from litestar.params import PathParameter, QueryParameter, SkipValidation

from feiqian.api.access import Reader
from feiqian.api.gateway import Gateway
from feiqian.api.problems import BadParameter
from feiqian.api.shapes import DEFAULT_PAGE, MAX_PAGE

V1 = "/api/v1"
MAX_HEIGHT = 2**38

Here = NamedDependency[SkipValidation[Gateway]]
Asker = NamedDependency[SkipValidation[Reader]]

Limit = Annotated[
    int, QueryParameter(ge=1, le=MAX_PAGE, description=f"Items in the answer, {DEFAULT_PAGE} unless told otherwise")
]
Cursor = Annotated[str | None, QueryParameter(max_length=400, description="`next_cursor` of the answer before")]
AtHeight = Annotated[int, PathParameter(ge=0, le=MAX_HEIGHT, description="A block's height")]
SomeHeight = Annotated[int | None, QueryParameter(ge=0, le=MAX_HEIGHT, description="A block's height")]
AddressText = Annotated[str, PathParameter(max_length=90, description="An account, `fq1…`")]
IdHex = Annotated[str, PathParameter(max_length=64, description="32 bytes in hex")]
CodeText = Annotated[str, PathParameter(max_length=48, description="An asset's code")]
MemberText = Annotated[str, PathParameter(max_length=32, description="A member's id")]
AssetCode = Annotated[str | None, QueryParameter(max_length=48, description="An asset's code")]


def id_of(text: str) -> bytes:
    """Return the 32 bytes of an id. Raises: BadParameter."""
    try:
        data = bytes.fromhex(text) if text.isascii() and text.isalnum() else b""
    except ValueError:
        data = b""
    if len(data) != 32:
        raise BadParameter("an id is 64 hex digits")
    return data
