"""The proxies do to connections what they say, and nothing else."""

import contextlib
import socket
import socketserver
import threading
import time

import pytest

from services.http_proxy import ThrottlingProxy
from services.proxy import ChaosProxy, Faults


class Echo(socketserver.BaseRequestHandler):
    """Sends back what comes, and remembers how the connection ended."""

    def handle(self):
        ending = "closed"
        try:
            while piece := self.request.recv(65536):
                self.server.received += len(piece)
                self.request.sendall(piece)
        except ConnectionError:
            ending = "reset"
        self.server.endings.append(ending)


class EchoServer(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Echo)
        self.endings = []
        self.received = 0


@pytest.fixture
def echo():
    with EchoServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def proxy(echo):
    with ChaosProxy(*echo.server_address) as proxy:
        yield proxy


@pytest.fixture
def client(proxy):
    with socket.create_connection((proxy.host, proxy.port), timeout=5) as connection:
        yield connection


def receive(connection, count):
    data = b""
    while len(data) < count and (piece := connection.recv(65536)):
        data += piece
    return data


def receive_all(connection):
    """Return what comes until the end, and how that was."""
    data = b""
    try:
        while piece := connection.recv(65536):
            data += piece
    except ConnectionResetError:
        return data, "reset"
    return data, "closed"


def try_connection(proxy):
    """Return what a new connection yields, and how it ends; a reset may come before it is made."""
    try:
        with socket.create_connection((proxy.host, proxy.port), timeout=5) as connection:
            return receive_all(connection)
    except ConnectionResetError:
        return b"", "reset"


def wait_until(holds):
    until = time.monotonic() + 5
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.005)


class TestChaosProxy:
    def test_changes_nothing_of_itself(self, client, echo, proxy):
        """Bytes and endings pass."""
        data = bytes(range(256)) * 4000

        threading.Thread(target=lambda: (client.sendall(data), client.shutdown(socket.SHUT_WR))).start()

        assert receive_all(client) == (data, "closed")
        wait_until(lambda: echo.endings == ["closed"])
        assert (proxy.connections, proxy.cuts) == (1, 0)

    def test_delays(self, client, proxy):
        """Every piece waits, in each direction."""
        proxy.faults = Faults(latency=0.1)

        start = time.monotonic()
        client.sendall(b"a")

        assert receive(client, 1) == b"a"
        assert time.monotonic() - start >= 0.2

    @pytest.mark.parametrize("count", [0, 1, 100_000])
    def test_cuts_after_bytes_from_the_client(self, client, echo, proxy, count):
        """No more arrive than that; then both ends get a reset."""
        proxy.faults = Faults(cut_after=count, direction="up")

        with contextlib.suppress(ConnectionError):
            client.sendall(bytes(300_000))

        wait_until(lambda: echo.endings)
        assert echo.received <= count
        assert proxy.cuts == 1
        with pytest.raises(ConnectionError):
            client.sendall(b"more")
            client.recv(1)
            client.sendall(b"more")

    @pytest.mark.parametrize("count", [0, 5])
    def test_cuts_after_bytes_from_the_server(self, client, proxy, echo, count):
        """The request has arrived, its answer does not come, or not all of it."""
        proxy.faults = Faults(cut_after=count, direction="down")

        client.sendall(b"0123456789")
        data, ending = receive_all(client)

        assert (b"01234"[:count].startswith(data), ending) == (True, "reset")
        assert echo.received == 10

    def test_closes_half(self, client, echo, proxy):
        """The client's side ends early for the server, which still answers."""
        proxy.faults = Faults(half_close_after=3, direction="up")

        client.sendall(b"0123456789")

        assert receive_all(client) == (b"012", "closed")
        wait_until(lambda: echo.endings == ["closed"])

    def test_swallows(self, client, proxy):
        """Nothing comes while it lasts, and all of it afterwards."""
        proxy.faults = Faults(blackhole=True)
        client.sendall(b"late")
        client.settimeout(0.1)
        with pytest.raises(TimeoutError):
            client.recv(1)

        proxy.faults = Faults()
        client.settimeout(5)

        assert receive(client, 4) == b"late"

    def test_drips(self, client, proxy):
        """So many bytes a second."""
        proxy.faults = Faults(drip=1000, direction="down")

        start = time.monotonic()
        client.sendall(bytes(200))

        assert receive(client, 200) == bytes(200)
        assert time.monotonic() - start >= 0.15

    def test_refuses(self, proxy, echo):
        """A new connection is reset before the server hears of it."""
        proxy.faults = Faults(refuse=True)

        assert try_connection(proxy) == (b"", "reset")
        assert (proxy.cuts, echo.endings) == (1, [])

    def test_resets_what_is_open(self, client, proxy, echo):
        """Both ends notice."""
        client.sendall(b"a")
        receive(client, 1)

        proxy.reset()

        assert receive_all(client) == (b"", "reset")
        wait_until(lambda: echo.endings == ["reset"])

    def test_tells_when_the_server_is_away(self, proxy, echo):
        """A client's connection ends with a reset, as if nobody listened."""
        echo.shutdown()
        echo.server_close()

        assert try_connection(proxy) == (b"", "reset")


def s3(server, endpoint, **config):
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=server.user,
        aws_secret_access_key=server.password,
        region_name=server.extra["region"],
        config=Config(s3={"addressing_style": "path"}, **config),
    )


@pytest.fixture
def bucket(seaweedfs):
    name = f"proxy-{time.time_ns()}"
    s3(seaweedfs, seaweedfs.extra["endpoint"]).create_bucket(Bucket=name)
    return name


class TestThrottlingProxy:
    def test_passes_signed_requests(self, seaweedfs, bucket):
        """Bodies of every framing arrive as they were sent."""
        with ThrottlingProxy(seaweedfs.host, seaweedfs.port, share=0) as proxy:
            client = s3(seaweedfs, proxy.endpoint)
            client.put_object(Bucket=bucket, Key="k", Body=bytes(300_000), ChecksumAlgorithm="SHA256")

            assert client.get_object(Bucket=bucket, Key="k")["Body"].read() == bytes(300_000)
            assert [method for method, _ in proxy.passed] == ["PUT", "GET"]

    def test_says_slow_down(self, seaweedfs, bucket):
        """In S3's words, to those requests that the test names."""
        from botocore.exceptions import ClientError

        with ThrottlingProxy(
            seaweedfs.host, seaweedfs.port, only=lambda method, target: method == "PUT", retry_after=1
        ) as proxy:
            client = s3(seaweedfs, proxy.endpoint, retries={"total_max_attempts": 1})
            with pytest.raises(ClientError) as caught:
                client.put_object(Bucket=bucket, Key="k", Body=b"x" * 300_000)

            assert caught.value.response["Error"]["Code"] == "SlowDown"
            assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
            assert caught.value.response["ResponseMetadata"]["HTTPHeaders"]["retry-after"] == "1"
            assert client.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
            assert proxy.refused == [("PUT", f"/{bucket}/k")]

    def test_stops_after_so_many(self, seaweedfs, bucket):
        """A client that tries again gets through."""
        with ThrottlingProxy(seaweedfs.host, seaweedfs.port, times=2) as proxy:
            client = s3(seaweedfs, proxy.endpoint, retries={"total_max_attempts": 3, "mode": "standard"})
            client.put_object(Bucket=bucket, Key="k", Body=b"x")

            assert (len(proxy.refused), len(proxy.passed)) == (2, 1)

    def test_speaks_as_google_does(self, fake_gcs):
        """Its client reads the error's JSON."""
        from google.api_core.exceptions import ServiceUnavailable
        from google.auth.credentials import AnonymousCredentials
        from google.cloud import storage

        with ThrottlingProxy(fake_gcs.host, fake_gcs.port) as proxy:
            client = storage.Client(
                project="p", credentials=AnonymousCredentials(), client_options={"api_endpoint": proxy.endpoint}
            )
            with pytest.raises(ServiceUnavailable, match="slow down"):
                client.create_bucket("throttled", retry=None)

    def test_breaks_connections_too(self, seaweedfs, bucket):
        """What a test sets as faults holds for HTTP as well."""
        from botocore.exceptions import HTTPClientError

        with ThrottlingProxy(seaweedfs.host, seaweedfs.port, share=0) as proxy:
            client = s3(seaweedfs, proxy.endpoint, retries={"total_max_attempts": 1})
            proxy.faults = Faults(cut_after=50_000, direction="up")
            with pytest.raises(HTTPClientError):
                client.put_object(Bucket=bucket, Key="k", Body=bytes(300_000))

            assert proxy.cuts == 1
