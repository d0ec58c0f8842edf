"""The published XSDs of ISO 20022, found in the packages that ship them, and the only ways XML comes in or goes out.

In: UTF-8, no document type, bounded size, depth and count, a known namespace, valid. Out: valid, or not at all.
"""

import re
from collections.abc import Mapping
from dataclasses import is_dataclass
from enum import Enum
from functools import cache
from importlib import import_module
from importlib.metadata import distribution
from pathlib import Path
from types import UnionType
from typing import Any, NoReturn, Union, get_args, get_origin, get_type_hints
from xml.parsers import expat

from lxml import etree  # pyright: ignore[reportAttributeAccessIssue]  # a C module without stubs
from xsdata.formats.dataclass.serializers import XmlSerializer
from xsdata.formats.dataclass.serializers.config import SerializerConfig
from xsdata.models.datatype import XmlDate, XmlDateTime

from feiqian.core.errors import Fault
from feiqian.modules.payments.edge import errors

MAX_FILE_BYTES = 16 * 1024 * 1024
MAX_DEPTH = 32
MAX_ELEMENTS = 1_000_000
MAX_ATTRIBUTES = 16

_ELEMENT = re.compile(r"Element '(?:\{[^}]*\})?([^']+)'")

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

NAMESPACE_PREFIX = "urn:iso:std:iso:20022:tech:xsd:"

_SHIPPED_IN = {
    "pain.001.001.03": ("pain001", "templates/pain.001.001.03/pain.001.001.03.xsd"),
    "pain.001.001.09": ("pain001", "templates/pain.001.001.09/pain.001.001.09.xsd"),
    "pain.001.001.11": ("pain001", "templates/pain.001.001.11/pain.001.001.11.xsd"),
    "pain.002.001.03": ("pain001", "pain002/schemas/pain.002.001.03.xsd"),
    "pain.002.001.12": ("pain001", "pain002/schemas/pain.002.001.12.xsd"),
    "camt.053.001.08": ("camt053", "xsd/camt.053.001.08.xsd"),
    "camt.054.001.08": ("camt053", "xsd/camt.054.001.08.xsd"),
}


def schema_path(message: str) -> Path:
    """Return where the XSD of a message such as `pain.001.001.09` lies. Its package is located, never imported."""
    package, place = _SHIPPED_IN[message]
    return Path(str(distribution(package).locate_file(package))) / place


@cache
def schema(message: str) -> etree.XMLSchema:
    """Return the compiled XSD of a message."""
    return etree.XMLSchema(etree.parse(str(schema_path(message)), _parser()))


def read(data: bytes, messages: tuple[str, ...]) -> tuple[str, etree._Element]:
    """Return which of `messages` the bytes are, and the `Document` element, valid by its XSD.

    Raises:
        FileRefused: one of its subclasses 1 to 8.
    """
    if len(data) > MAX_FILE_BYTES:
        raise errors.FileTooLarge(f"file of {len(data)} bytes; at most {MAX_FILE_BYTES} are read")
    _check_utf8(data)
    _check_shape(data)
    document = _tree(data)
    message = _message_of(document, messages)
    validator = schema(message)
    if not validator.validate(document):
        raise errors.SchemaViolated(f"{message}: {_first_error(validator)}")
    return message, document


def write(message: str, content: Mapping[str, Any]) -> bytes:
    """Return the UTF-8 XML of a message, valid by its XSD.

    `content` names the fields of pyiso20022's `Document` of that message, nested; None and empty ones are left out.

    Raises:
        Fault: what was built breaks the schema; it is ours and is not handed out.
    """
    serializer = XmlSerializer(config=SerializerConfig(xml_declaration=False))
    built = _build(_document_type(message), content)
    text = serializer.render(built, ns_map={None: NAMESPACE_PREFIX + message})  # type: ignore[dict-item]
    document = etree.fromstring(text.encode(), _parser())
    validator = schema(message)
    if not validator.validate(document):
        raise Fault(f"{message} written here breaks its schema: {_first_error(validator)}")
    etree.indent(document)
    return etree.tostring(document, xml_declaration=True, encoding="UTF-8") + b"\n"


def _document_type(message: str) -> type[Any]:
    name = message.replace(".", "_")
    return import_module(f"pyiso20022.{message[:4]}.{name}").Document


def _build(type_: Any, value: Any) -> Any:
    """Return `value` as `type_` says: dataclasses from mappings, enumerations and dates from their text."""
    if isinstance(type_, type) and is_dataclass(type_):
        hints = _hints(type_)
        make: Any = type_
        return make(**{name: _build_field(hints[name], inner) for name, inner in value.items() if inner is not None})
    if isinstance(type_, type) and issubclass(type_, Enum):
        return type_(value)
    if type_ in (XmlDate, XmlDateTime):
        return type_.from_string(value)
    if type_ is str:
        # Names and words that come from the ledger may hold what XML 1.0 cannot.
        return _NOT_XML.sub("\ufffd", str(value))
    return type_(value)


@cache
def _hints(type_: type[Any]) -> dict[str, Any]:
    # Working them out takes most of the time of writing a long statement.
    return get_type_hints(type_)


def _build_field(hint: Any, value: Any) -> Any:
    if get_origin(hint) is list:
        (inner,) = get_args(hint)
        return [_build(inner, item) for item in value]
    if get_origin(hint) in (Union, UnionType):
        hint = next(option for option in get_args(hint) if option is not type(None))
    return _build(hint, value)


def _parser() -> etree.XMLParser:
    return etree.XMLParser(
        resolve_entities=False,
        load_dtd=False,
        dtd_validation=False,
        no_network=True,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )


def _check_utf8(data: bytes) -> None:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise errors.FileNotUtf8(f"byte {error.start} is not UTF-8; write the file in UTF-8") from None


def _tree(data: bytes) -> etree._Element:
    try:
        return etree.fromstring(data, _parser())
    except etree.XMLSyntaxError as error:
        # What libxml2 refuses and expat does not: namespace names that are no URI, prefixes declared wrongly.
        raise errors.FileNotXml(f"not well-formed XML with namespaces: line {error.lineno}") from None


def _check_shape(data: bytes) -> None:
    """Walk the file once without building anything: declarations, depth and counts come before a tree."""
    shape = _Shape()
    parser = expat.ParserCreate("utf-8")
    parser.XmlDeclHandler = shape.declaration
    parser.StartDoctypeDeclHandler = shape.doctype
    parser.StartElementHandler = shape.start
    parser.EndElementHandler = shape.end
    parser.ordered_attributes = True
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise errors.FileNotXml(f"not well-formed XML: {expat.ErrorString(error.code)}, line {error.lineno}") from None


class _Shape:
    """What the walk counts."""

    def __init__(self) -> None:
        self.depth = 0
        self.elements = 0

    def declaration(self, _version: str, encoding: str | None, _standalone: int) -> None:
        if encoding is not None and encoding.upper() not in ("UTF-8", "UTF8"):
            raise errors.FileNotUtf8(f"the XML declaration says {encoding[:40]!r}; only UTF-8 is read")

    def doctype(self, *_declaration: object) -> NoReturn:
        raise errors.DoctypeForbidden("a document type declaration is not read; leave <!DOCTYPE> out")

    def start(self, _name: str, attributes: list[str]) -> None:
        self.depth += 1
        self.elements += 1
        if self.depth > MAX_DEPTH:
            raise errors.FileTooDeep(f"elements nested more than {MAX_DEPTH} deep")
        if self.elements > MAX_ELEMENTS or len(attributes) > 2 * MAX_ATTRIBUTES:
            raise errors.TooManyElements(f"more than {MAX_ELEMENTS} elements, or {MAX_ATTRIBUTES} attributes on one")

    def end(self, _name: str) -> None:
        self.depth -= 1


def _message_of(document: etree._Element, messages: tuple[str, ...]) -> str:
    name = etree.QName(document)
    message = (name.namespace or "").removeprefix(NAMESPACE_PREFIX)
    if name.localname != "Document" or name.namespace != NAMESPACE_PREFIX + message or message not in messages:
        found = f"<{name.localname[:40]}> in namespace {str(name.namespace)[:80]!r}"
        raise errors.MessageUnknown(f"{found}; read here: Document of {', '.join(messages)}")
    return message


def _first_error(validator: etree.XMLSchema) -> str:
    # Line, element and kind only: libxml2's message quotes the offending value, which may be personal data.
    entry = validator.error_log[0]
    element = _ELEMENT.match(entry.message)
    named = "" if element is None else f", element {element[1][:40]}"
    return f"line {entry.line}{named} ({entry.type_name.removeprefix('SCHEMAV_')})"
