"""Reads the settings file of a ledger's directory, which both processes share."""

from pathlib import Path

from feiqian.core.settings import SettingsError


def settings_text(directory: Path) -> str:
    """Return what `feiqian.toml` in a ledger's directory says.

    Raises:
        SettingsError: there is none, or it cannot be read.
    """
    try:
        return (directory / "feiqian.toml").read_text("utf-8")
    except FileNotFoundError:
        raise SettingsError(f"{directory} holds no feiqian.toml; make a ledger with `feiqian init`") from None
    except OSError as error:
        raise SettingsError(f"feiqian.toml in {directory} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"feiqian.toml in {directory} is not UTF-8; write it anew") from None
