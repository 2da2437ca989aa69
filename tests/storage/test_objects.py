"""Objects in buckets by name and glob, from a real S3 server on loopback: sizes, ETags, rights, and errors."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from fsspec.config import conf
from made.servers.s3 import KEYS, SECRET, Buckets, buckets, environment, times
from s3fs import S3FileSystem

from laion_dask.storage import objects
from laion_dask.storage.objects import ListedObject, NoObjectError, ObjectError

BODIES = {"w/b.wat.gz": b"bb", "w/a.wat.gz": b"a", "w/deep/er/c.wat.gz": b"ccc", "w/notes.txt": b"", "top.wat": b"t"}


@pytest.fixture(scope="module")
def server() -> Iterator[Buckets]:
    with buckets() as found, environment(found, **KEYS):
        yield found


@pytest.fixture
def bucket(server: Buckets, monkeypatch: pytest.MonkeyPatch) -> Buckets:
    monkeypatch.setattr(objects, "RETRY_WAITS_S", (0.0, 0.0))
    monkeypatch.setattr(S3FileSystem, "retries", 1)  # of its own; they take seconds
    server.empty()
    server.put("first", BODIES)
    server.asked.clear()
    return server


def names(place: str) -> list[str]:
    return [one.location.removeprefix("s3://first/") for one in objects.find(place)]


@pytest.mark.usefixtures("bucket")
@pytest.mark.parametrize(
    ("glob", "expected"),
    [
        ("w/a.wat.gz", ["w/a.wat.gz"]),
        ("w/*.wat.gz", ["w/a.wat.gz", "w/b.wat.gz"]),
        ("w/?.wat.gz", ["w/a.wat.gz", "w/b.wat.gz"]),
        ("w/[bc].wat.gz", ["w/b.wat.gz"]),
        ("w/**/*.wat.gz", ["w/a.wat.gz", "w/b.wat.gz", "w/deep/er/c.wat.gz"]),
        ("w/*/*/*.wat.gz", ["w/deep/er/c.wat.gz"]),
        ("**/*.wat", ["top.wat"]),
        ("w/n*", ["w/notes.txt"]),
    ],
)
def test_a_glob_matches_objects_as_a_local_one_matches_files(
    glob: str, expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert names(f"s3://first/{glob}") == expected
    for key, body in BODIES.items():
        (tmp_path / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / key).write_bytes(body)
    monkeypatch.chdir(tmp_path)
    if "**" not in glob:  # which pathlib gives folders for too
        assert sorted(path.as_posix() for path in Path().glob(glob) if path.is_file()) == expected


def test_size_and_etag_come_with_one_request_for_a_name_and_one_for_a_folder(bucket: Buckets) -> None:
    (one,) = objects.find("s3://first/w/b.wat.gz")
    assert one == ListedObject("s3://first/w/b.wat.gz", 2, '"21ad0bd836b90d08f4cf640b4c298e7c"')
    assert bucket.asked == ["HEAD /first/w/b.wat.gz"]
    bucket.asked.clear()
    assert objects.find("s3://first/w/b*")[0] == one
    assert len(bucket.asked) == 1


@pytest.mark.usefixtures("bucket")
def test_what_changes_between_two_listings_is_seen(bucket: Buckets) -> None:
    before = objects.find("s3://first/w/*.wat.gz")
    bucket.put("first", {"w/a.wat.gz": b"A", "w/new.wat.gz": b"n"})
    after = objects.find("s3://first/w/*.wat.gz")
    assert [one.location[-9:] for one in after] == ["/a.wat.gz", "/b.wat.gz", "ew.wat.gz"]
    assert after[0].bytes == before[0].bytes
    assert after[0].etag != before[0].etag
    assert after[1] == before[1]


def test_an_object_that_exists_is_taken_by_its_name_and_never_as_a_pattern(bucket: Buckets) -> None:
    bucket.put("first", {"x[1].gz": b"x", "x1.gz": b"y", "y*.gz": b"x", "yy.gz": b"y"})
    assert names("s3://first/x[1].gz") == ["x[1].gz"]
    assert names("s3://first/y*.gz") == ["y*.gz"]
    assert names("s3://first/[xy][1].gz") == ["x1.gz"]


@pytest.mark.usefixtures("bucket")
@pytest.mark.parametrize(
    ("place", "kind", "message"),
    [
        ("s3://first/gone.gz", NoObjectError, r"gone\.gz does not exist at http://127.*Remedy: correct the address"),
        ("s3://first/gone/*.gz", NoObjectError, r"gone/\*\.gz matches no object at http.*Remedy: correct the glob"),
        ("s3://nobody/a.gz", NoObjectError, r"there is no bucket nobody at http.*Remedy: correct its name"),
        ("s3://nobody/*.gz", NoObjectError, r"there is no bucket nobody .*AWS_ENDPOINT_URL"),
        ("s3://first/w", ObjectError, r"/w is a folder\. Remedy: name its files with a glob, such as s3://first/w/\*"),
        ("s3://first/w/", ObjectError, r"/w/ is a folder\. Remedy"),
        ("s3://fir*/w", ObjectError, r"wildcard in the name of the bucket\. Remedy: name each bucket"),
        ("gopher://x/y", ObjectError, r"gopher.*Remedy: a local path, https:// or s3://"),
        ("memory://x/y", NoObjectError, "Remedy"),
    ],
)
def test_what_is_not_there_is_told_with_the_remedy(place: str, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        objects.find(place)


def test_an_address_of_http_is_not_asked_for(bucket: Buckets) -> None:
    assert objects.find(f"{bucket.url}/first/w/*.gz") == [ListedObject(f"{bucket.url}/first/w/*.gz", -1, "")]
    assert bucket.asked == []


# A server that refuses

BUSY = [("503 Slow Down", "SlowDown"), ("503 Service Unavailable", "ServiceUnavailable"), ("500 Oh", "InternalError")]


@pytest.mark.parametrize(("status", "code"), BUSY)
@pytest.mark.parametrize("place", ["w/a.wat.gz", "w/*.wat.gz"])
def test_a_busy_server_is_asked_again_and_then_named(bucket: Buckets, status: str, code: str, place: str) -> None:
    bucket.instead = [times(2, status, code)]
    assert names(f"s3://first/{place}")[0] == "w/a.wat.gz"
    bucket.instead = [times(99, status, code)]
    with pytest.raises(ObjectError, match=r"cannot be read \(.*, 3 times in 0 s\)\. Remedy: check the address"):
        objects.find(f"s3://first/{place}")


def test_a_server_that_cannot_be_reached_is_named(bucket: Buckets) -> None:
    with (
        environment(bucket, **KEYS, AWS_ENDPOINT_URL="http://127.0.0.1:9"),
        pytest.raises(ObjectError, match=r"cannot be read .*127\.0\.0\.1:9.*Remedy: check .*endpoint"),
    ):
        objects.find("s3://first/w/*.gz")


# Rights, as moto checks them: signatures, users and their policies


@pytest.fixture
def reader(bucket: Buckets) -> Iterator[dict[str, str]]:
    """Let the server check every request; return the key of a user who may read the bucket `first` and no other."""
    bucket.put("second", {"x.gz": b"x"})
    allowed = {
        "Effect": "Allow",
        "Action": ["s3:ListBucket", "s3:GetObject"],
        "Resource": ["arn:aws:s3:::first", "arn:aws:s3:::first/*"],
    }
    iam = bucket.client("iam")
    iam.create_user(UserName="reader")
    policy = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
    iam.put_user_policy(UserName="reader", PolicyName="reads", PolicyDocument=policy)
    key = iam.create_access_key(UserName="reader")["AccessKey"]
    bucket.post("reset-auth", "0")
    yield {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}
    bucket.post("reset-auth", "inf")


def test_a_user_reads_what_it_may_read_and_is_told_what_it_may_not(server: Buckets, reader: dict[str, str]) -> None:
    with environment(server, **reader):
        assert names("s3://first/w/*.wat.gz") == ["w/a.wat.gz", "w/b.wat.gz"]
        objects.first_byte(objects.find("s3://first/w/a.wat.gz")[0])
        for place in ("s3://second/x.gz", "s3://second/*.gz"):
            with pytest.raises(
                ObjectError, match=r"cannot be read \(.*(Forbidden|Access Denied).*Remedy: give this us"
            ):
                objects.find(place)


@pytest.mark.parametrize("wrong", [{"AWS_SECRET_ACCESS_KEY": SECRET}, {"AWS_ACCESS_KEY_ID": "AKIANOBODYNOBODYNOBO"}])
def test_a_key_that_is_wrong_is_told_and_never_shown(
    server: Buckets, reader: dict[str, str], wrong: dict[str, str]
) -> None:
    with (
        environment(server, **{**reader, **wrong}),
        pytest.raises(ObjectError, match=r"cannot be read \(The .*Remedy: give this user") as refused,
    ):
        objects.find("s3://first/w/*.gz")
    assert SECRET not in str(refused.value)
    assert reader["AWS_SECRET_ACCESS_KEY"] not in str(refused.value)


def test_without_credentials_requests_are_anonymous_and_a_refusal_says_so(server: Buckets) -> None:
    server.empty()
    server.put("commoncrawl", {"crawl-data/x.gz": b"x", "private.gz": b"p"})
    server.client().put_object_acl(Bucket="commoncrawl", Key="crawl-data/x.gz", ACL="public-read")
    with environment(server):
        assert [one.bytes for one in objects.find("s3://commoncrawl/crawl-data/*.gz")] == [1]
        objects.first_byte(objects.find("s3://commoncrawl/crawl-data/x.gz")[0])
        with pytest.raises(ObjectError, match=r"Forbidden.*Remedy: no credentials are found here: give this user the"):
            objects.find("s3://commoncrawl/private.gz")


def test_an_object_that_may_be_listed_and_not_read_is_told_before_a_run(bucket: Buckets) -> None:
    (one,) = objects.find("s3://first/w/a*")
    bucket.instead = [times(99, "403 Forbidden", "AccessDenied", "Access Denied", of="GET /first/w/a.wat.gz")]
    with pytest.raises(ObjectError, match=r"/w/a\.wat\.gz cannot be read \(Access Denied\)\. Remedy: give this user"):
        objects.first_byte(one)


# Where endpoint and credentials come from


def profile(folder: Path, server: Buckets) -> dict[str, str]:
    config, secrets = folder / "config", folder / "credentials"
    config.write_text(f"[profile mine]\nendpoint_url = {server.url}\nregion = us-east-1\n")
    secrets.write_text("[mine]\n" + "".join(f"{name.lower()} = {value}\n" for name, value in KEYS.items()))
    files = {"AWS_CONFIG_FILE": str(config), "AWS_SHARED_CREDENTIALS_FILE": str(secrets)}
    return {**files, "AWS_PROFILE": "mine"}


@pytest.mark.parametrize("way", ["environment", "profile", "fsspec", "fsspec with client options"])
def test_endpoint_and_credentials_come_from_every_usual_place(bucket: Buckets, way: str, tmp_path: Path) -> None:
    of_fsspec = {"key": KEYS["AWS_ACCESS_KEY_ID"], "secret": SECRET}
    bucket.asked.clear()
    more = {"environment": KEYS, "profile": profile(tmp_path, bucket)}.get(way, {})
    with environment(bucket, **more), pytest.MonkeyPatch.context() as patch:
        if way != "environment":
            patch.delenv("AWS_ENDPOINT_URL")
        if way == "fsspec":
            patch.setitem(conf, "s3", {**of_fsspec, "endpoint_url": bucket.url})
        if way == "fsspec with client options":
            kept = {"s3": {"addressing_style": "path"}, "connect_timeout": 5}
            client = {"endpoint_url": bucket.url}
            patch.setitem(conf, "s3", {**of_fsspec, "client_kwargs": client, "config_kwargs": kept})
            assert objects.options("s3://first/x")["config_kwargs"].items() > kept.items()
        assert names("s3://first/w/*.wat.gz") == ["w/a.wat.gz", "w/b.wat.gz"]
        assert not fsspec.filesystem("s3", **objects.options("s3://first/x")).anon
    assert bucket.asked


def test_credentials_that_cannot_be_read_are_told(bucket: Buckets) -> None:
    with environment(bucket, AWS_PROFILE="nobody"), pytest.raises(ObjectError, match=r"nobody.*Remedy: .*AWS_PROFILE"):
        objects.find("s3://first/w/*.gz")


def test_addresses_are_told_from_paths() -> None:
    table = {"s3://b/k": (True, True), "https://h/k": (True, False), "file:///k": (False, False), "w/a": (False, False)}
    assert {place: (objects.is_address(place), objects.can_list(place)) for place in table} == table
    assert not re.search("key|secret", str(objects.options("https://h/k")))
