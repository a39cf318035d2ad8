"""A bucket in another region than that of the environment: S3 answers with a redirect that names the region."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from eclipse_pl.data.remote_folder import RemoteFolder

pytest.importorskip("s3fs")

CONTENT = bytes(range(200))


@contextmanager
def bucket_in(region: str, named: bool, patch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A server that answers as S3 does where a request is signed for another region. Yields the paths that it served."""
    served: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            if f"/{region}/s3/" in self.headers.get("Authorization", ""):
                served.append(self.path)
                first, last = (
                    int(place) for place in self.headers.get("Range", "bytes=0-199").removeprefix("bytes=").split("-")
                )
                return self.answer(206, CONTENT[first : last + 1], {"Content-Range": f"bytes {first}-{last}/{len(CONTENT)}"})
            code = "<Error><Code>PermanentRedirect</Code><Message>The bucket is in another region.</Message></Error>"
            self.answer(301, code.encode(), {"x-amz-bucket-region": region} if named else {})

        def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name, value in (("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b"), ("AWS_DEFAULT_REGION", "us-east-1")):
        patch.setenv(name, value)
    patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()


def test_the_redirect_to_the_buckets_region_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    with bucket_in("eu-west-1", True, monkeypatch) as served:
        assert RemoteFolder("s3://far/karlo").read("0000.tar", 5, 50) == CONTENT[5:50]
    assert served == ["/far/karlo/0000.tar"]


def test_a_redirect_that_names_no_region_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eclipse_pl.data.remote_folder.WAITS", (0.0, 0.0))
    with (
        bucket_in("eu-west-1", False, monkeypatch),
        pytest.raises(ValueError, match=r"s3://far/karlo.*AWS_DEFAULT_REGION") as error,
    ):
        RemoteFolder("s3://far/karlo").read("0000.tar", 5, 50)
    assert "\n" not in str(error.value)
