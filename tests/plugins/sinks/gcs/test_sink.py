"""The options of the sink `gcs`, and what a run finds out before it writes."""

import json
import subprocess
import sys
from datetime import UTC, datetime

import pytest

from muniment import ConfigError, Context, FatalError, TargetBusyError
from muniment.testing import make_record
from muniment.testing.runs import archive
from muniment_plugins.sinks._retention import Retention
from muniment_plugins.sinks.gcs import GCS
from muniment_plugins.sinks.gcs.errors import RefusedError, explain


class TestCheck:
    @pytest.mark.parametrize(
        ("options", "problem"),
        [
            ({"bucket": "gs://b"}, "`bucket` is a name alone, such as `my-archive`; what follows it is the `prefix`"),
            ({"part_bytes": 1000}, "`part_bytes` must be a multiple of 262144"),
            ({"concurrency": 0}, "`concurrency` must be at least 1"),
            ({"anonymous": True, "credentials_file": "k"}, "`anonymous` and `credentials_file` exclude each other"),
            ({"object_lock": Retention()}, "`object_lock` needs either `retain_days` or `retain_until`"),
            ({"object_lock": Retention(retain_days=0)}, "`object_lock.retain_days` must be at least 1"),
            (
                {"temporary_hold": True, "mode": "mirror"},
                "`mode: mirror` replaces objects, which `temporary_hold` forbids; use `mode: append`",
            ),
            (
                {"object_lock": Retention(retain_days=1), "mode": "snapshot"},
                "`mode: snapshot` replaces objects, which `object_lock` forbids; use `mode: append`",
            ),
        ],
    )
    def test_it_says_what_is_wrong(self, options, problem):
        assert list(GCS(**{"bucket": "b", **options}).check()) == [problem]

    @pytest.mark.parametrize("prefix", ["../x", "a//b", "/a", "a\\b"])
    def test_it_refuses_a_prefix_that_leaves_its_place(self, prefix):
        with pytest.raises(ValueError, match="is no name of an object"):
            GCS(bucket="b", prefix=prefix)

    def test_it_ends_a_prefix_with_a_slash(self):
        assert [GCS(bucket="b", prefix=p).prefix for p in ("", "a", "a/b/")] == ["", "a/", "a/b/"]


class TestRetention:
    def test_it_counts_days_from_the_upload(self):
        now = datetime.now(UTC)

        assert 6.9 < (Retention(retain_days=7).until() - now).total_seconds() / 86400 < 7.1

    def test_it_reads_a_time_without_a_zone_as_utc(self):
        assert Retention(retain_until=datetime(2035, 1, 1)).until() == datetime(2035, 1, 1, tzinfo=UTC)


class TestCredentials:
    def test_it_says_what_to_do_without_any(self, monkeypatch):
        """Application Default Credentials are looked for where Google's tools look."""
        monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS")
        monkeypatch.setenv("CLOUDSDK_CONFIG", "nowhere")

        with pytest.raises(ConfigError) as caught:
            GCS(bucket="b").storage()
        assert str(caught.value) == (
            "`gs://b/`: there are no Google credentials: run `gcloud auth application-default login`, or set"
            " `credentials_file` to the key of a service account"
        )

    def test_it_says_that_a_file_is_no_key(self, tmp_path):
        key = tmp_path / "key.json"
        key.write_text('{"private_key": "hidden"}')

        with pytest.raises(ConfigError) as caught:
            GCS(bucket="b", credentials_file=key).storage()
        assert str(caught.value).startswith(f"`gs://b/`: `{key}` is not the key of a service account")
        assert "hidden" not in str(caught.value)

    def test_it_uses_the_key_of_a_service_account(self, tmp_path):
        """Nothing is sent before the first request."""
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import rsa

        private = rsa.generate_private_key(65537, 2048).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        key = tmp_path / "key.json"
        account = {
            "type": "service_account", "project_id": "p", "private_key": private.decode(),
            "client_email": "archiver@p.iam.gserviceaccount.com", "token_uri": "http://127.0.0.1:9/token",
        }  # fmt: skip
        key.write_text(json.dumps(account))

        with GCS(bucket="b", credentials_file=key).storage() as storage:
            assert storage.api._client._credentials.service_account_email == account["client_email"]

    def test_it_says_that_credentials_have_expired(self):
        from google.auth.exceptions import RefreshError

        explained = explain(RefreshError("invalid_grant: Token has been expired or revoked."), "gs://b/")

        assert isinstance(explained, FatalError)
        assert "they have expired or were revoked; run `gcloud auth application-default login`" in str(explained)

    def test_it_says_that_a_certificate_is_not_trusted(self):
        from requests.exceptions import SSLError

        explained = explain(SSLError("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed certificate"), "gs://b/")

        assert str(explained) == (
            "`gs://b/`: the certificate of the endpoint is not trusted; set REQUESTS_CA_BUNDLE to the certificate of"
            " its authority"
        )

    def test_it_leaves_addresses_out_of_what_a_server_says(self):
        explained = explain(RefusedError(400, "x", "bad https://storage.example/x?upload_id=hidden request"), "gs://b/")

        assert str(explained) == "`gs://b/` was refused (400: bad request)"


class TestRun:
    def test_a_second_run_on_this_machine_is_refused(self, fake_gcs, new_bucket, sink_on, tmp_path):
        endpoint = fake_gcs.extra["endpoint"]
        bucket = new_bucket(endpoint)
        sink, ctx = sink_on(endpoint, bucket), Context(run="r", path="sinks[0] (gcs)", state_dir=tmp_path)
        with sink.open_target(ctx), pytest.raises(TargetBusyError) as caught:
            sink.open_target(ctx)

        assert (
            str(caught.value) == f"another run on this machine writes to `gs://{bucket}/`; wait until it has finished"
        )

    def test_a_run_leaves_the_lock_when_its_store_cannot_be_used(self, gcs_emulator, new_bucket, sink_on, tmp_path):
        endpoint = gcs_emulator.extra["endpoint"]
        sink, ctx = sink_on(endpoint, new_bucket(endpoint)), Context(run="r", state_dir=tmp_path)
        for _ in range(2):
            with pytest.raises(ConfigError, match="does not honour `ifGenerationMatch`"):
                sink.open_target(ctx)

    def test_two_places_have_two_states(self, tmp_path):
        ctx = Context(run="r", state_dir=tmp_path)
        sinks = [
            GCS(bucket="b"),
            GCS(bucket="b", prefix="c"),
            GCS(bucket="c"),
            GCS(bucket="b", endpoint_url="http://x"),
        ]

        assert len({s.state_path(ctx) for s in sinks}) == 4

    def test_the_state_is_a_cache(self, fake_gcs, new_bucket, sink_on, tmp_path):
        """Without it, a run reads the manifests and knows what is stored."""
        endpoint = fake_gcs.extra["endpoint"]
        sink = sink_on(endpoint, new_bucket(endpoint))
        records = [make_record(f"c{i}", ["Hello"]) for i in range(5)]
        archive(sink, records, state_dir=tmp_path / "a")
        report = archive(sink, records, state_dir=tmp_path / "b")

        assert report.sinks["contract"].stored == 0


class TestMissingExtra:
    @pytest.mark.parametrize(
        ("sink", "module", "extra"),
        [
            ("gcs:GCS(bucket='b')", "google.cloud", "gcs"),
            ("azure_blob:AzureBlob(container='c', account_url='https://x')", "azure.storage", "azure"),
        ],
    )
    def test_it_says_what_to_install(self, sink, module, extra):
        """In an installation without the client library; naming the sink imports none of it."""
        name, _, call = sink.partition(":")
        code = (
            f"import sys; from muniment_plugins.sinks.{name} import {call.partition('(')[0]}\n"
            f"assert not any(m.startswith({module!r}) for m in sys.modules)\n"
            f"sys.modules[{module!r}] = None\n"
            f"try: {call}.storage()\n"
            "except Exception as error: print(type(error).__name__, error)"
        )
        out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

        assert out.startswith(f"PluginError sink `{name}` needs the module `{module}")
        assert out.rstrip().endswith(f'which is not installed: pip install "muniment[{extra}]"')
