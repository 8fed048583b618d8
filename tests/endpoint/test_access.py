"""Addresses and keys: which are taken, and that no key is shown."""

from __future__ import annotations

import os
import sys

import pytest

from mstar.endpoint import AddressedModel, ChatClient
from mstar.errors import ConfigError


@pytest.mark.parametrize(
    "address",
    [
        *("localhost:8000", "ftp://host", "http://", "http://host:x"),
        *("http://user:pass@host/v1", "http://user:pass@host:x/v1", "https://host/v1?key=abc", "host/v1?key=abc"),
    ],
)
def test_what_is_no_address_is_refused_and_shows_no_key(address: str) -> None:
    with pytest.raises(ConfigError, match="address") as raised:
        AddressedModel(address, "m")
    assert "pass" not in str(raised.value)
    assert "abc" not in str(raised.value)


@pytest.mark.parametrize("key", ["sk-abc-123", "hf_abc123"])
def test_a_key_itself_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(ConfigError, match="not the name of an environment variable") as raised:
        AddressedModel("http://host", "m", key)
    assert key not in str(raised.value)
    with pytest.raises(ConfigError, match="MSTAR_NOT_SET"):
        ChatClient(AddressedModel("http://host", "m", "MSTAR_NOT_SET"))


@pytest.mark.parametrize("key", ["top-secret\nanother", "top-secret\u201d", "top secret"])
def test_what_cannot_be_a_key_is_not_shown(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSTAR_TEST_KEY", key)
    with pytest.raises(ConfigError, match="MSTAR_TEST_KEY has a line break") as raised:
        ChatClient(AddressedModel("http://host", "m", "MSTAR_TEST_KEY"))
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("http://host:1", "/v1/chat/completions"),
        ("http://host/", "/v1/chat/completions"),
        ("http://host/openai/v2/", "/openai/v2/chat/completions"),
        ("http://host/v1/chat/completions", "/v1/chat/completions"),
    ],
)
def test_an_address_may_be_given_in_any_usual_form(address: str, path: str) -> None:
    assert ChatClient(AddressedModel(address, "m")).url.path == path


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ALL_PROXY", "socks5://me:top-secret@localhost:1080"),
        ("all_proxy", "socks://me:top-secret@localhost:1080"),
        ("HTTPS_PROXY", "http://me:secret#1@proxy:8080"),
        ("SSL_CERT_FILE", "/nowhere/certificates.pem"),
    ],
)
def test_what_the_environment_makes_impossible_is_named(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for other in [other for other in os.environ if other.lower().endswith(("_proxy", "ssl_cert_dir"))]:
        monkeypatch.delenv(other)
    # Where the package for SOCKS is installed, the same proxy can be used.
    monkeypatch.setitem(sys.modules, "socksio", None)
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=r"ALL_PROXY.*SSL_CERT_FILE.* cannot be used.*# as %23") as raised:
        ChatClient(AddressedModel("http://host", "m"))
    assert "secret" not in str(raised.value)
    assert raised.value.__suppress_context__
