"""Every failure is one sentence that names the bucket and the remedy, and never a secret."""

import datetime
import http.server
import json
import logging
import ssl
import threading

import pytest
from botocore import exceptions

from muniment import Context, FatalError, TransientError
from muniment.secrets import Secret
from muniment.testing import make_record
from muniment.testing.runs import archive
from muniment_plugins.sinks.s3 import client as client_module
from muniment_plugins.sinks.s3.errors import ACTIONS, explain

PLACE = "bucket `b`"


def refused(code, status=400, message="", headers=None, **more):
    answer = {
        "Error": {"Code": code, "Message": message, **more},
        "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": headers or {}},
    }
    return exceptions.ClientError(answer, "PutObject")


class TestExplain:
    @pytest.mark.parametrize(
        ("error", "operation", "said"),
        [
            (refused("NoSuchBucket", 404), "list_objects_v2", "there is no such bucket; make it first"),
            (refused("RequestTimeTooSkewed", 403), "put_object", "set this machine's clock (NTP)"),
            (refused("InvalidAccessKeyId", 403), "put_object", "does not know the access key"),
            (refused("SignatureDoesNotMatch", 403), "put_object", "the secret access key is wrong"),
            (refused("ExpiredToken", 400), "put_object", "the session token has expired; log in again"),
            (refused("AccessDenied", 403), "put_object", "bucket `b` refuses s3:PutObject; grant it"),
            (refused("403", 403), "head_object", "refuses s3:GetObject (and s3:ListBucket"),
            (
                refused("AccessDenied", 403, "x is not authorized to perform: s3:PutObjectTagging on resource y"),
                "put_object",
                "refuses s3:PutObjectTagging; grant it",
            ),
            (refused("AccessDenied", 403, "KMS says no"), "put_object", "kms:GenerateDataKey and kms:Decrypt"),
            (
                refused("PermanentRedirect", 301, headers={"x-amz-bucket-region": "eu-west-3"}),
                "put_object",
                "is in another region; set `region: eu-west-3`",
            ),
            (refused("AuthorizationHeaderMalformed", 400, Region="eu-north-1"), "put_object", "`region: eu-north-1`"),
            (
                refused("InvalidRequest", 400, "Bucket is missing Object Lock Configuration"),
                "put_object",
                "has no object lock",
            ),
            (refused("InvalidBucketState", 409), "put_object", "versioning is suspended"),
            (refused("InvalidObjectState", 403), "get_object", "must be restored first"),
            (
                refused("Strange", 400, headers={"x-amz-request-id": "7"}),
                "put_object",
                "refuses put_object with `Strange` (request 7)",
            ),
            (exceptions.NoCredentialsError(), "put_object", "there are no credentials; set `access_key_id`"),
            (exceptions.ProfileNotFound(profile="p"), "client", "there is no such `profile`"),
            (exceptions.SSLError(endpoint_url="https://x", error="e"), "put_object", "TLS failed"),
            (exceptions.ParamValidationError(report="key=hunter2"), "put_object", "a form that S3 does not know"),
        ],
    )
    def test_says_what_to_do(self, error, operation, said):
        """And that another attempt would not help."""
        found = explain(error, PLACE, operation)

        assert type(found) is FatalError and said in str(found)
        assert str(found).startswith(PLACE) and "hunter2" not in str(found)

    @pytest.mark.parametrize(
        "error",
        [
            refused("SlowDown", 503),
            refused("InternalError", 500),
            refused("502", 502),
            refused("RequestTimeout", 400),
            refused("BadDigest", 400),
            refused("ConditionalRequestConflict", 409),
            exceptions.EndpointConnectionError(endpoint_url="http://x"),
            exceptions.ReadTimeoutError(endpoint_url="http://x"),
            exceptions.ConnectionClosedError(endpoint_url="http://x"),
            exceptions.IncompleteReadError(actual_bytes=1, expected_bytes=2),
        ],
    )
    def test_knows_what_passes(self, error):
        """Which is worth another attempt."""
        assert isinstance(explain(error, PLACE, "put_object"), TransientError)

    def test_hears_how_long_to_wait(self):
        """From a number of seconds; a date is no reason to fail."""
        waits = [explain(refused("SlowDown", 503, headers={"retry-after": t}), PLACE, "x") for t in ("7", "Mon, 1 Jan")]

        assert [w.retry_after_seconds for w in waits] == [7.0, None]

    def test_every_call_has_its_grant(self):
        """Whatever the sink calls, a refusal names what to allow."""
        assert all(action.startswith("s3:") for action in ACTIONS.values())


class TestARun:
    """What a user sees at the start of a run."""

    def start(self, sink, tmp_path):
        with pytest.raises(FatalError) as caught:
            sink.open_target(Context(run="r", state_dir=tmp_path))
        return str(caught.value)

    def test_without_a_bucket(self, seaweedfs, sink_on, tmp_path):
        """It is named, and so is the store."""
        endpoint = seaweedfs.extra["endpoint"]

        assert self.start(sink_on(seaweedfs, "no-such-bucket"), tmp_path) == (
            f"bucket `no-such-bucket` at {endpoint}: there is no such bucket; make it first, or correct `bucket`,"
            " `region` and `endpoint_url`"
        )

    def test_with_a_wrong_key(self, seaweedfs, bucket, sink_on, tmp_path, monkeypatch):
        """Either of the two, by its option."""
        monkeypatch.setenv("WRONG", "wrong-value")

        said = self.start(sink_on(seaweedfs, bucket, secret_access_key=Secret("env:WRONG")), tmp_path)
        assert "the secret access key is wrong; check `secret_access_key`" in said and "wrong-value" not in said
        said = self.start(sink_on(seaweedfs, bucket, access_key_id=Secret("env:WRONG")), tmp_path)
        assert "does not know the access key; check `access_key_id`" in said and "wrong-value" not in said

    def test_without_a_grant(self, seaweedfs, make_bucket, sink_on, client, tmp_path):
        """The action to allow is named."""
        bucket = make_bucket()
        statement = {
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:PutObject",
            "Resource": f"arn:aws:s3:::{bucket}/*",
        }
        policy = {"Version": "2012-10-17", "Statement": [statement]}
        client.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))

        assert "refuses s3:PutObject; grant it to these credentials" in self.start(sink_on(seaweedfs, bucket), tmp_path)

    def test_without_credentials(self, seaweedfs, bucket, sink_on, tmp_path):
        """Where boto3 finds none either."""
        sink = sink_on(seaweedfs, bucket, access_key_id=None, secret_access_key=None)

        assert "there are no credentials; set `access_key_id`" in self.start(sink, tmp_path)

    def test_with_a_store_that_is_not_there(self, sink_on, seaweedfs, tmp_path, monkeypatch):
        """Told after three attempts, not after all that a run would make."""
        pauses = []
        monkeypatch.setattr(client_module, "_back_off", lambda attempt: pauses.append(attempt) or 0)
        sink = sink_on(seaweedfs, "some-bucket", endpoint="http://127.0.0.1:9")

        with pytest.raises(TransientError, match="^bucket `some-bucket` at http://127.0.0.1:9 cannot be reached"):
            sink.open_target(Context(run="r", state_dir=tmp_path))
        assert pauses == [1, 2]

    def test_the_lock_is_given_back(self, seaweedfs, bucket, prefix, sink_on, tmp_path):
        """A run that could not begin holds nothing."""
        self.start(sink_on(seaweedfs, "no-such-bucket"), tmp_path)

        assert not list(tmp_path.glob(".*.lock"))


class Store(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b"<Error><Code>NoSuchBucket</Code><Message>none</Message></Error>"
        self.send_response(404)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def tls_store(tmp_path):
    """A store whose certificate nobody knows; yields its address and that certificate."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (tmp_path / "ca.pem").write_bytes(certificate.public_bytes(pem))
    (tmp_path / "key.pem").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "ca.pem", tmp_path / "key.pem")
    server = http.server.HTTPServer(("127.0.0.1", 0), Store)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *_: None
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"https://localhost:{server.server_port}", tmp_path / "ca.pem"
    server.shutdown()
    thread.join()
    server.server_close()


class TestTLS:
    def test_a_stranger_is_not_trusted(self, tls_store, seaweedfs, sink_on, tmp_path):
        """Until its authority is named."""
        address, authority = tls_store
        sink = sink_on(seaweedfs, "some-bucket", endpoint=address)
        with pytest.raises(
            FatalError, match="^bucket `some-bucket` at .* cannot be trusted: TLS failed; .*`ca_bundle`"
        ):
            sink.open_target(Context(run="r", state_dir=tmp_path))
        trusting = sink_on(seaweedfs, "some-bucket", endpoint=address, ca_bundle=authority)

        with pytest.raises(FatalError, match="there is no such bucket"):
            trusting.open_target(Context(run="r", state_dir=tmp_path))


def test_logs_hold_no_secret(seaweedfs, bucket, prefix, sink_on, tmp_path, caplog, monkeypatch):
    """Whatever the level: request headers, which carry tokens and keys, are not logged."""
    monkeypatch.setenv("TOKEN_FOR_LOGS", "a-token-nobody-may-see")
    caplog.set_level(logging.DEBUG)
    sink = sink_on(seaweedfs, bucket, prefix=prefix)
    archive(sink, [make_record("c0")], state_dir=tmp_path)
    with pytest.raises(FatalError):
        sink_on(seaweedfs, bucket, session_token=Secret("env:TOKEN_FOR_LOGS")).open_target(
            Context(run="r", state_dir=tmp_path)
        )

    assert "a-token-nobody-may-see" not in caplog.text and seaweedfs.password not in caplog.text
    assert "Authorization" not in caplog.text and "AWS4-HMAC" not in caplog.text
    assert seaweedfs.password not in repr(sink) + repr(sink._bucket()) + repr(sink._connection())
