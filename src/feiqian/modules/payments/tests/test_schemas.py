"""The XSDs that files are checked against are ISO's, whole: nothing in them is left out or narrowed."""

from importlib import import_module

import pytest
from lxml import etree  # pyright: ignore[reportAttributeAccessIssue]  # a C module without stubs

from feiqian.modules.payments.edge.schemas import _SHIPPED_IN, NAMESPACE_PREFIX, schema_path

XSD = "{http://www.w3.org/2001/XMLSchema}"


def classes_of(message: str) -> dict[str, set[str]]:
    """Return the types of a message with their elements, as another package generated them from ISO's repository."""
    name = message.replace(".", "_")
    module = import_module(f"pyiso20022.{message[:4]}.{name}.{name}")
    return {
        kind.replace("_", "").lower(): {
            field.metadata["name"]
            for field in made.__dataclass_fields__.values()
            if field.metadata.get("type") == "Element"
        }
        for kind, made in vars(module).items()
        if hasattr(made, "__dataclass_fields__") and kind != "Document"
    }


@pytest.mark.parametrize("message", _SHIPPED_IN)
def test_a_schema_has_every_type_and_element_of_its_message(message: str) -> None:
    root = etree.parse(str(schema_path(message))).getroot()
    assert root.get("targetNamespace") == NAMESPACE_PREFIX + message
    types = {
        kind.get("name").replace("_", "").lower(): {element.get("name") for element in kind.iter(f"{XSD}element")}
        for kind in root.findall(f"{XSD}complexType")
    }
    del types["document"]
    assert len(types) > 50
    assert types == classes_of(message)
