"""The options of the sink `azure_blob`."""

import pytest

from muniment import ConfigError, Context
from muniment.secrets import Secret
from muniment_plugins.sinks.azure_blob import AzureBlob, BlobLock

URL = "https://me.blob.core.windows.net"
KEY = Secret("env:K")


@pytest.fixture(autouse=True)
def _account_key():
    """No server is needed here."""


class TestCheck:
    @pytest.mark.parametrize(
        ("options", "problem"),
        [
            ({}, "either `account_url` or `connection_string` is needed, not both"),
            (
                {"account_url": URL, "account_key": KEY, "sas_token": KEY},
                "`account_key` and `sas_token` exclude each other",
            ),
            ({"account_url": URL, "part_bytes": 1}, "`part_bytes` must be between 65536 and 4194304000"),
            ({"account_url": URL, "concurrency": 0}, "`concurrency` must be at least 1"),
            (
                {"account_url": URL, "metadata": {"a-b": "c"}},
                "`metadata`: `a-b` is no key that Azure takes; use letters, digits and `_`",
            ),
            (
                {"account_url": URL, "object_lock": BlobLock()},
                "`object_lock` needs either `retain_days` or `retain_until`",
            ),
            (
                {"account_url": URL, "object_lock": BlobLock(legal_hold=True), "mode": "mirror"},
                "`object_lock` cannot go with `mode: mirror`, which replaces objects; use `mode: append`",
            ),
        ],
    )
    def test_it_says_what_is_wrong(self, options, problem):
        assert list(AzureBlob(container="c", **options).check()) == [problem]

    def test_it_takes_a_legal_hold_alone(self):
        sink = AzureBlob(container="c", account_url=URL, object_lock=BlobLock(legal_hold=True))
        arguments = sink._blob_options().arguments("part", "mark")

        assert list(sink.check()) == []
        assert arguments["legal_hold"] is True and "immutability_policy" not in arguments

    def test_it_says_how_long_an_object_is_kept(self):
        lock = BlobLock(mode="locked", retain_days=3)
        made = AzureBlob(container="c", account_url=URL, object_lock=lock, encryption_scope="s")._blob_options()
        arguments = made.arguments("part", "mark")

        assert arguments["immutability_policy"].policy_mode == "Locked"
        assert arguments["encryption_scope"] == "s"


class TestCredentials:
    def test_a_connection_string_is_never_repeated(self, monkeypatch):
        monkeypatch.setenv("K", "hidden")
        with pytest.raises(ConfigError) as caught:
            AzureBlob(container="c", connection_string=KEY).storage()

        assert str(caught.value) == (
            "`azure container c/`: the connection string, address or key has no form that Azure knows"
        )
        assert caught.value.__cause__ is None

    def test_two_places_have_two_states(self, tmp_path):
        ctx = Context(run="r", state_dir=tmp_path)
        sinks = [AzureBlob(container="c", account_url=URL, prefix=p) for p in ("", "a", "b")]

        assert len({s.state_path(ctx) for s in sinks}) == 3
