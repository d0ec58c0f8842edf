"""Consensus parameters: one record, set at genesis and by governance."""

from feiqian.core.encoding import encode
from feiqian.core.errors import CoreError
from feiqian.ledger.context import Context
from feiqian.ledger.errors import ParametersOutOfRange
from feiqian.ledger.events import ParametersSet
from feiqian.ledger.records import Parameters
from feiqian.state.tables import Overlay, Table

PARAMETERS: Table[Parameters] = Table("ledger.parameters", Parameters)

PARAMETERS_KEY = b"current"


def get_parameters(state: Overlay) -> Parameters:
    """Return the parameters that hold; the defaults before genesis set any."""
    return PARAMETERS.get(state, PARAMETERS_KEY) or Parameters()


def set_parameters(ctx: Context, parameters: Parameters) -> None:
    """Replace the parameters; `execution` reads them at the start of each block.

    Raises:
        ParametersOutOfRange: one is outside what its field accepts.
    """
    check_parameters(parameters)
    PARAMETERS.put(ctx.state, PARAMETERS_KEY, parameters)
    ctx.emit(ParametersSet(parameters))


def check_parameters(parameters: Parameters) -> None:
    """Refuse parameters out of range.

    Raises:
        ParametersOutOfRange: naming the field.
    """
    try:
        PARAMETERS.codec.decode(encode(parameters))
    except CoreError as error:
        names = ", ".join(f"{place} {name}" for place, name in enumerate(parameters.__struct_fields__))
        raise ParametersOutOfRange(f"{error.message} (fields: {names})") from None
