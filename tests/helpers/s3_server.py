"""An S3 server on loopback: moto's, with one bucket."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest


@contextmanager
def s3_bucket(bucket: str, patch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Start the server, and set the environment that leads s3fs to it. Yields a client of boto3."""
    server_of = pytest.importorskip("moto.server")
    pytest.importorskip("s3fs")
    import boto3

    for name, value in (("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b"), ("AWS_DEFAULT_REGION", "us-east-1")):
        patch.setenv(name, value)
    server = server_of.ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        address = "http://{}:{}".format(*server.get_host_and_port())
        patch.setenv("AWS_ENDPOINT_URL", address)
        client = boto3.client("s3", endpoint_url=address)
        client.create_bucket(Bucket=bucket)
        yield client
    finally:
        server.stop()
