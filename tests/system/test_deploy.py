"""What services and containers are made from: units that systemd takes, images from the tree as it is."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import yaml

from feiqian.api.settings import GatewaySettings
from feiqian.node.comet.testnet import GATEWAY_PORT, P2P_PORT
from feiqian.node.faults import FAULT, WRONG_USAGE
from feiqian.testing.consoles import ROOT

DEPLOY = ROOT / "deploy"
UNIT = DEPLOY / "systemd" / "feiqian@.service"
CONTAINERFILE = DEPLOY / "container" / "Containerfile"
COMPOSE = DEPLOY / "container" / "compose.yaml"
FIRST_NETWORK = ROOT / "samples" / "first-network.toml"
MOST_EXPOSED = 20
"""Of systemd's own scale to 100; a service without any hardening has 96."""


def installed(directory: Path) -> Path:
    """Return the unit with this machine's `feiqian`, which systemd looks for."""
    feiqian = Path(sys.executable).with_name("feiqian")
    unit = directory / UNIT.name
    unit.write_text(UNIT.read_text("utf-8").replace("/opt/feiqian/.venv/bin/feiqian", str(feiqian)), "utf-8")
    return unit


def test_systemd_takes_the_unit_without_a_word(tmp_path: Path) -> None:
    done = subprocess.run(["systemd-analyze", "verify", installed(tmp_path)], capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")


def test_systemd_holds_the_unit_for_well_protected(tmp_path: Path) -> None:
    command = ["systemd-analyze", "security", "--offline=true", f"--threshold={MOST_EXPOSED}", installed(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_unit_does_not_start_again_what_a_person_has_to_look_at() -> None:
    said = dict(re.findall(r"^(\w+)=(.*)$", UNIT.read_text("utf-8"), re.MULTILINE))
    assert said["Restart"] == "on-failure"
    assert {int(status) for status in said["RestartPreventExitStatus"].split()} == {WRONG_USAGE, FAULT}


def test_the_image_is_built_from_files_that_there_are_and_that_may_come_into_it() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line[0] == "!"}
    copied = [
        source
        for line in re.findall(r"^COPY (?!--from)(.*)$", CONTAINERFILE.read_text("utf-8"), re.MULTILINE)
        for source in line.split()[:-1]
    ]
    assert {source for source in copied if not (ROOT / source).exists()} == set()
    assert {name if name in copied else f"{name}/" for name in allowed} == {
        source if source in allowed else f"{Path(source).parent}/" for source in copied
    }


def test_the_image_is_built_with_a_go_that_the_pin_needs_and_serves_where_it_says() -> None:
    text = CONTAINERFILE.read_text("utf-8")
    needed = re.search(r"^go (\d+\.\d+)", (DEPLOY / "cometbft" / "go.mod").read_text("utf-8"), re.MULTILINE)
    assert needed is not None
    assert f"golang:{needed[1]}-" in text
    assert f"EXPOSE {P2P_PORT} {GATEWAY_PORT}\n" in text
    assert {field.lower() for field in re.findall(r"FEIQIAN_GATEWAY_(\w+)=", text)} <= set(
        GatewaySettings.__struct_fields__
    )


def test_the_network_of_containers_is_the_sample_with_a_directory_a_port_and_no_rights_each() -> None:
    compose: dict[str, Any] = yaml.safe_load(COMPOSE.read_text("utf-8"))
    members = [member["id"] for member in tomllib.loads(FIRST_NETWORK.read_text("utf-8"))["members"]]
    services: dict[str, dict[str, Any]] = compose["services"]
    assert list(services) == members
    assert f"--hosts {','.join(members)} " in COMPOSE.read_text("utf-8")
    for place, (name, service) in enumerate(services.items()):
        assert service["volumes"] == [f"${{NETWORK:-../../network}}/{name}:/ledger"]
        assert service["ports"] == [f"127.0.0.1:{GATEWAY_PORT + 1 + place}:{GATEWAY_PORT}"]
        assert f"USER {service['user']}" in CONTAINERFILE.read_text("utf-8")
        assert service["cap_drop"] == ["ALL"]
        assert service["read_only"] is True
        assert service["restart"] == "no"
    context = (COMPOSE.parent / services[members[0]]["build"]["context"]).resolve()
    assert context == ROOT
    assert (context / services[members[0]]["build"]["dockerfile"]) == CONTAINERFILE
