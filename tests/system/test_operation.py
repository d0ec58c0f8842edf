"""What operators watch a network by: figures are listed, and the dashboard asks for what there is."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from feiqian.client import Client
from feiqian.node.comet import votelog
from feiqian.node.comet.testnet import POWER
from feiqian.node.configuration import Layout
from feiqian.testing.comet_binary import require_cometbft
from feiqian.testing.consoles import ROOT
from feiqian.testing.ledgers import key_of
from feiqian.testing.running import RunningNetwork, samples_of
from feiqian.testing.validators import await_that

NETWORK_PAGES = [ROOT / "docs" / "operators" / name for name in ("network.md", "network.zh.md")]
DASHBOARD = ROOT / "deploy" / "grafana" / "feiqian.json"
FUNCTIONS = {"by", "histogram_quantile", "increase", "label_values", "rate", "sum"}
FIGURE = re.compile(r"\b((?:feiqian|cometbft|process)_[a-z0-9_]+)\b")


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNetwork]:
    require_cometbft()
    network = RunningNetwork(tmp_path_factory.mktemp("operation") / "network", count=2)
    yield network
    network.close()


@pytest.fixture(scope="module")
def exported(network: RunningNetwork) -> dict[str, dict[str, set[str]]]:
    """Return each figure of the gateway and of CometBFT, once something was paid, with its labels."""
    network.client().submit([network.sample.issue("south", 1)], wait="provable")
    httpx.get(f"{network.addresses[0]}/ready", trust_env=False)
    figures = network.validators[0].figures
    return {name: samples_of(httpx.get(url, trust_env=False).text) for name, url in figures.items()}


def rows_of(page: Path, heading: str) -> dict[str, set[str]]:
    """Return a page's table of figures: names with their labels."""
    text = page.read_text("utf-8")
    table = text[text.index(f"\n{heading}") :].split("\n\n|", 1)[1].split("\n\n", 1)[0]
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in f"|{table}".splitlines()[2:]]
    return {row[0].strip("` "): {label for label in row[1].strip().split(", ") if label} for row in rows}


def queries() -> list[str]:
    """Return every expression of the dashboard."""
    dashboard: dict[str, Any] = json.loads(DASHBOARD.read_text("utf-8"))
    targets = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    return targets + [each["query"]["query"] for each in dashboard["templating"]["list"] if each["type"] == "query"]


@pytest.mark.parametrize(
    ("page", "heading"), [(NETWORK_PAGES[0], "## Figures"), (NETWORK_PAGES[1], "## 指标")], ids=("english", "chinese")
)
def test_the_figures_of_a_network_are_listed_with_their_labels(
    exported: dict[str, dict[str, set[str]]], page: Path, heading: str
) -> None:
    everywhere = (ROOT / "docs" / "operators" / "README.md").read_text("utf-8")
    found = {name: labels for name, labels in exported["feiqian"].items() if f"`{name}`" not in everywhere}
    listed = rows_of(page, heading)
    assert listed.keys() == found.keys()
    # A figure that nothing has been counted in yet shows no labels.
    assert {name: labels for name, labels in found.items() if labels and labels != listed[name]} == {}


def test_the_dashboard_asks_for_figures_and_labels_that_there_are(exported: dict[str, dict[str, set[str]]]) -> None:
    there = {**exported["feiqian"], **exported["cometbft"]}
    suffixes = ("", "_bucket", "_count", "_sum")
    asked = {name for query in queries() for name in FIGURE.findall(query)}
    assert len(asked) > 25
    known = {name + suffix for name in there for suffix in suffixes}
    assert asked - known == set()
    for query in queries():
        assert set(re.findall(r"([a-z_]+) ?\(", query)) <= FUNCTIONS
        names = FIGURE.findall(query)
        labels = {label for name in names for label in there[re.sub(r"_(bucket|count|sum)$", "", name)]}
        used = {label for group in re.findall(r"by \(([^)]*)\)", query) for label in group.split(", ")}
        # `node` and `job` are what Prometheus is told to add (deploy/grafana/prometheus.yml).
        assert used <= labels | {"le", "node", "job"}, query


def test_what_a_peer_told_is_counted_as_such(network: RunningNetwork, exported: dict[str, dict[str, set[str]]]) -> None:
    assert exported
    first, second = (httpx.get(each.figures["feiqian"], trust_env=False).text for each in network.validators)
    assert 'feiqian_verdicts_total{origin="sender",verdict="accepted"} 1.0' in first
    assert 'feiqian_gossip_bundles_total{way="out"} 1.0' in first
    assert 'feiqian_verdicts_total{origin="peer",verdict="accepted"} 1.0' in second
    assert 'feiqian_gossip_bundles_total{way="in"} 1.0' in second


def test_each_figure_of_a_network_is_on_the_dashboard(exported: dict[str, dict[str, set[str]]]) -> None:
    own = rows_of(NETWORK_PAGES[0], "## Figures")
    text = " ".join(queries())
    assert [name for name in own if name not in text] == []


def signed_in(network: RunningNetwork) -> Client:
    client = network.client()
    client.sign_in(network.sample.addresses["south"], key_of("south"))
    return client


def test_members_see_how_a_node_fares_and_what_it_takes(network: RunningNetwork, exported: object) -> None:
    assert exported
    assert "operation" not in network.client().status()
    status = signed_in(network).status()
    operation = status["operation"]
    told = operation["network"]
    assert told["peers"] == 1
    assert told["missing_nodes"] == []
    assert told["is_catching_up"] is False
    assert 1 <= told["comet_first_height"] <= told["comet_height"]
    assert status["height"] - 1 <= told["comet_height"] <= status["height"] + 1
    assert len(told["validators"]) == 2
    assert {each["power"] for each in told["validators"]} == {POWER}
    assert operation["blocks_held"] == status["height"] + 1 - status["first_block"]
    assert min(operation["index_bytes"], operation["comet_bytes"], status["store_bytes"]) > 0


def test_the_log_of_votes_lies_where_it_is_shortened(network: RunningNetwork, exported: object) -> None:
    assert exported
    for validator in network.validators:
        assert (Layout(validator.directory).comet / "data" / "cs.wal" / votelog.NAME).stat().st_size


def test_a_node_that_is_away_is_named(network: RunningNetwork) -> None:
    """The last test: the network stands still afterwards."""
    client = signed_in(network)
    away = network.validators[1]
    assert away.end() == 0
    await_that("the peer is gone", lambda: client.status()["operation"]["network"]["peers"] == 0)
    assert client.status()["operation"]["network"]["missing_nodes"] == [away.directory.name]
