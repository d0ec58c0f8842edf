"""Settings: defaults, the environment over the file, and clear refusals of what is not understood."""

from pathlib import Path

import pytest

from feiqian.core.settings import SettingsError
from feiqian.node.configuration import Layout, NodeSettings, read_node_settings


def settings_in(directory: Path, text: str, **environment: str) -> NodeSettings:
    (directory / "feiqian.toml").write_text(text, "utf-8")
    return read_node_settings(Layout(directory), environment)


def test_an_empty_file_gives_the_defaults(tmp_path: Path) -> None:
    assert settings_in(tmp_path, "") == NodeSettings()


def test_the_file_is_read_and_the_environment_overrules_it(tmp_path: Path) -> None:
    text = '[node]\nblock_interval_ms = 20\nlog_level = "debug"\n[gateway]\nport = 1\n'
    settings = settings_in(tmp_path, text, FEIQIAN_NODE_BLOCK_INTERVAL_MS="75", FEIQIAN_GATEWAY_PORT="2", HOME="/")
    assert (settings.block_interval_ms, settings.log_level) == (75, "debug")


@pytest.mark.parametrize(
    ("text", "environment", "said"),
    [
        ("[node]\nblock_intervall_ms = 20", {}, "block_intervall_ms"),
        ("[nodes]\n", {}, "'nodes'"),
        ("node = 3", {}, "write [node]"),
        ("[node]\nblock_interval_ms = 0", {}, "$.block_interval_ms"),
        ('[node]\nblock_interval_ms = "20"', {}, "$.block_interval_ms"),
        ("[node]\nblock_interval_ms = 20.5", {}, "$.block_interval_ms"),
        ("[node", {}, "not TOML"),
        ("", {"FEIQIAN_NODE_SPEED": "9"}, "'speed'"),
        ("", {"FEIQIAN_NODE_POOL_BYTES": "many"}, "$.pool_bytes"),
        ("", {"FEIQIAN_NODE_ENGINE": "steam"}, "$.engine"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(
    tmp_path: Path, text: str, environment: dict[str, str], said: str
) -> None:
    with pytest.raises(SettingsError) as refusal:
        settings_in(tmp_path, text, **environment)
    assert said in str(refusal.value)


def test_a_directory_without_settings_says_how_to_make_a_ledger(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="feiqian init"):
        read_node_settings(Layout(tmp_path), {})


def test_a_socket_path_that_linux_cannot_hold_is_refused(tmp_path: Path) -> None:
    directory = tmp_path / ("d" * 107)
    directory.mkdir()
    with pytest.raises(SettingsError, match="socket"):
        settings_in(directory, "")
