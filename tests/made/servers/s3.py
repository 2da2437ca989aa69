"""S3 on loopback, as moto serves it, with answers that a test puts before those of the server."""

from __future__ import annotations

import logging
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from threading import Thread
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

import boto3
import pytest
from fsspec.config import conf
from moto.server import DomainDispatcherApplication, create_backend_app
from s3fs import S3FileSystem
from werkzeug.serving import WSGIRequestHandler, make_server

from laion_dask.storage import objects

SECRET = "not-a-secret-of-anybody"  # noqa: S105 - the test's own
KEYS = {"AWS_ACCESS_KEY_ID": "AKIATESTTESTTESTTEST", "AWS_SECRET_ACCESS_KEY": SECRET}

Answer = Callable[[str], tuple[str, str, str] | None]
"""Takes "METHOD /path?query"; returns status, code and message of an error, or None for the server's own answer."""


class _Quiet(WSGIRequestHandler):
    def log(self, *_: object) -> None:
        """Say nothing."""


@dataclass
class Buckets:
    """A server with buckets: its address, what it was asked, and what a test lets it answer instead."""

    url: str = ""
    asked: list[str] = field(default_factory=list)
    instead: list[Answer] = field(default_factory=list)
    _clients: dict[str, Any] = field(default_factory=dict)

    def client(self, name: str = "s3") -> Any:  # noqa: ANN401 - made by boto3
        """Return a client that may do everything."""
        if name not in self._clients:
            self._clients[name] = boto3.client(
                name,
                endpoint_url=self.url,
                region_name="us-east-1",
                aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
                aws_secret_access_key=SECRET,
            )
        return self._clients[name]

    def put(self, bucket: str, objects: Mapping[str, bytes]) -> None:
        """Put objects into a bucket, which is made if it is missing."""
        client = self.client()
        client.create_bucket(Bucket=bucket)
        for key, body in objects.items():
            client.put_object(Bucket=bucket, Key=key, Body=body)

    def empty(self) -> None:
        """Remove all buckets, and forget what was asked."""
        self.instead.clear()
        self.post("reset")
        self.asked.clear()

    def post(self, command: str, body: str = "") -> None:
        """Send a command of moto's own."""
        as_text = {"Content-Type": "text/plain"}
        request = urllib.request.Request(f"{self.url}/moto-api/{command}", body.encode(), as_text)  # noqa: S310
        urllib.request.urlopen(request).close()  # noqa: S310 - loopback


@dataclass
class _Front:
    buckets: Buckets
    moto: DomainDispatcherApplication

    def __call__(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        query = f"?{environ['QUERY_STRING']}" if environ["QUERY_STRING"] else ""
        asked = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}{query}"
        self.buckets.asked.append(asked)
        for answer in self.buckets.instead:
            if error := answer(asked):
                status, code, message = error
                text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
                body = b"" if environ["REQUEST_METHOD"] == "HEAD" else text.encode()
                start(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
                return [body]
        return self.moto(environ, start)


@contextmanager
def buckets() -> Iterator[Buckets]:
    """Run the server while the block runs."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    found = Buckets()
    front = _Front(found, DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, front, threaded=True, request_handler=_Quiet)
    found.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def environment(server: Buckets, **more: str) -> Iterator[dict[str, str]]:
    """Let AWS's environment name the server, and no credentials but those in `more`."""
    values = {
        "AWS_ENDPOINT_URL": server.url,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        **more,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.delitem(conf, "s3", raising=False)
        for name in (*KEYS, "AWS_PROFILE", "AWS_SESSION_TOKEN"):
            patch.delenv(name, raising=False)
        for name, value in values.items():
            patch.setenv(name, value)
        forget()
        yield values
    forget()


def forget() -> None:
    """Forget which credentials were found, and which endpoint a file system has."""
    objects._has_credentials.cache_clear()  # noqa: SLF001 - a process has one environment, a test has its own
    S3FileSystem.clear_instance_cache()


def times(count: int, status: str, code: str, message: str = "no", *, of: str = "") -> Answer:
    """Answer the first requests that contain a text with an error."""
    left = [None] * count

    def answer(asked: str) -> tuple[str, str, str] | None:
        with suppress(IndexError):
            if of in asked:
                left.pop()
                return status, code, message
        return None

    return answer
