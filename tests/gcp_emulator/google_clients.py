"""Drives the emulator with Google's own clients.

    python google_clients.py http://127.0.0.1:PORT

Needs google-cloud-secret-manager, google-cloud-run, google-cloud-logging and
google-cloud-storage. The server needs the image "sh" (["/bin/sh", "-c"]) and the bucket "data".
With SIGNING_KEY, the PEM of the private key of signer@py.iam.gserviceaccount.com, whose public
key the server knows, signed URLs are used as well.
"""

import gzip
import io
import os
import sys
import time
import urllib.error
import urllib.request

import google_crc32c
from google.api_core import exceptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import run_v2, secretmanager_v1, storage
from google.cloud.run_v2.services.executions.transports import ExecutionsRestTransport
from google.cloud.run_v2.services.jobs.transports import JobsRestTransport
from google.cloud.run_v2.services.tasks.transports import TasksRestTransport
from google.cloud.secretmanager_v1.services.secret_manager_service.transports import (
    SecretManagerServiceRestTransport,
)

URL = sys.argv[1]
HOST = URL.removeprefix("http://")


def transport(kind):
    return kind(host=HOST, credentials=AnonymousCredentials(), url_scheme="http")


def raises(status, call):
    """The call fails with this status of google.rpc.Code, or this HTTP status."""
    try:
        call()
    except exceptions.GoogleAPICallError as error:
        told = error.response.json()["error"] if error.response is not None else {}
        assert status in (told.get("status"), error.code), (status, error)
        return
    raise AssertionError(f"{status} was not raised")


def secrets():
    client = secretmanager_v1.SecretManagerServiceClient(
        transport=transport(SecretManagerServiceRestTransport)
    )
    parent = "projects/py"
    secret = client.create_secret(
        parent=parent,
        secret_id="token",
        secret={"replication": {"automatic": {}}, "labels": {"app": "mmm"}},
    )
    assert secret.name == f"{parent}/secrets/token", secret
    raises(
        "ALREADY_EXISTS",
        lambda: client.create_secret(
            parent=parent, secret_id="token", secret={"replication": {"automatic": {}}}
        ),
    )
    raises(
        "NOT_FOUND",
        lambda: client.access_secret_version(name=f"{secret.name}/versions/latest"),
    )
    payload = b"one\x00\xff"
    version = client.add_secret_version(
        parent=secret.name,
        payload={"data": payload, "data_crc32c": google_crc32c.value(payload)},
    )
    assert version.state == secretmanager_v1.SecretVersion.State.ENABLED
    assert version.client_specified_payload_checksum
    raises(
        "INVALID_ARGUMENT",
        lambda: client.add_secret_version(
            parent=secret.name, payload={"data": payload, "data_crc32c": 1}
        ),
    )
    raises(
        "INVALID_ARGUMENT",
        lambda: client.add_secret_version(
            parent=secret.name, payload={"data": b"x" * 65537}
        ),
    )
    got = client.access_secret_version(name=f"{secret.name}/versions/latest")
    assert got.payload.data == payload
    assert got.payload.data_crc32c == google_crc32c.value(payload)

    second = client.add_secret_version(parent=secret.name, payload={"data": b"two"})
    updated = client.update_secret(
        secret={"name": secret.name, "version_aliases": {"stable": 1}, "etag": secret.etag},
        update_mask={"paths": ["version_aliases"]},
    )
    assert updated.etag != secret.etag
    raises(
        "FAILED_PRECONDITION",
        lambda: client.update_secret(
            secret={"name": secret.name, "labels": {}, "etag": secret.etag},
            update_mask={"paths": ["labels"]},
        ),
    )
    stable = client.access_secret_version(name=f"{secret.name}/versions/stable")
    assert stable.payload.data == payload
    client.disable_secret_version(request={"name": second.name, "etag": second.etag})
    raises(
        "FAILED_PRECONDITION",
        lambda: client.access_secret_version(name=f"{secret.name}/versions/latest"),
    )
    raises(
        "FAILED_PRECONDITION",
        lambda: client.enable_secret_version(
            request={"name": second.name, "etag": second.etag}
        ),
    )
    enabled = client.list_secret_versions(
        request={"parent": secret.name, "filter": "state:ENABLED"}
    )
    assert [one.name for one in enabled] == [version.name]
    destroyed = client.destroy_secret_version(name=second.name)
    assert destroyed.state == secretmanager_v1.SecretVersion.State.DESTROYED

    for number in range(5):
        client.create_secret(
            parent=parent, secret_id=f"s{number}", secret={"replication": {"automatic": {}}}
        )
    listed = client.list_secrets(request={"parent": parent, "page_size": 2})
    names = [one.name.rsplit("/", 1)[1] for one in listed]
    assert names == ["s4", "s3", "s2", "s1", "s0", "token"], names
    client.delete_secret(name=secret.name)
    raises("NOT_FOUND", lambda: client.get_secret(name=secret.name))


def jobs():
    client = run_v2.JobsClient(transport=transport(JobsRestTransport))
    executions = run_v2.ExecutionsClient(transport=transport(ExecutionsRestTransport))
    tasks = run_v2.TasksClient(transport=transport(TasksRestTransport))
    parent = "projects/py/locations/here"

    def job(name, script, retries=0):
        container = {"image": "sh", "args": [script]}
        template = {"template": {"containers": [container], "max_retries": retries}}
        return client.create_job(parent=parent, job_id=name, job={"template": template}).result()

    hello = job("hello", 'echo "hello $NAME from $CLOUD_RUN_TASK_INDEX"')
    overrides = {
        "task_count": 2,
        "container_overrides": [{"env": [{"name": "NAME", "value": "there"}]}],
    }
    operation = client.run_job(request={"name": hello.name, "overrides": overrides})
    begun = operation.metadata
    assert begun.name.startswith(f"{hello.name}/executions/hello-"), begun
    done = operation.result(timeout=20)
    assert (done.succeeded_count, done.task_count) == (2, 2), done
    assert done.conditions[0].type_ == "Completed"
    assert done.conditions[0].state == run_v2.Condition.State.CONDITION_SUCCEEDED
    assert executions.get_execution(name=begun.name).completion_time

    fails = job("fails", "exit 7", retries=1)
    operation = client.run_job(name=fails.name)
    try:
        operation.result(timeout=20)
        raise AssertionError("the operation did not fail")
    except exceptions.GoogleAPICallError as error:
        assert "The container exited with an error." in error.message, error
    failed = executions.get_execution(name=operation.metadata.name)
    assert (failed.failed_count, failed.retried_count) == (1, 1), failed
    (task,) = tasks.list_tasks(parent=failed.name)
    assert (task.last_attempt_result.exit_code, task.retried) == (7, 1), task

    sleeps = job("sleeps", "sleep 60")
    operation = client.run_job(name=sleeps.name)
    time.sleep(0.3)
    executions.cancel_execution(name=operation.metadata.name)
    ended = operation.result(timeout=20)
    assert ended.cancelled_count == 1, ended
    reason = ended.conditions[0].execution_reason
    assert reason == run_v2.Condition.ExecutionReason.CANCELLED, reason

    assert {one.name for one in client.list_jobs(parent=parent)} == {
        hello.name,
        fails.name,
        sleeps.name,
    }
    client.delete_job(name=sleeps.name).result()
    raises("NOT_FOUND", lambda: client.get_job(name=sleeps.name))
    return begun.name.rsplit("/", 1)[1]


def logs(execution):
    # The generated logging client has no REST transport, so Google's HTTP wrapper speaks here.
    from google.cloud import logging

    client = logging.Client(
        project="py",
        credentials=AnonymousCredentials(),
        client_options={"api_endpoint": URL},
        _use_grpc=False,
    )
    entries = client.list_entries(
        filter_=f'labels."run.googleapis.com/execution_name"="{execution}"',
        order_by=logging.ASCENDING,
        page_size=1,
    )
    texts = sorted(entry.payload for entry in entries)
    assert texts == ["hello there from 0", "hello there from 1"], texts


def objects():
    client = storage.Client(
        project="py", credentials=AnonymousCredentials(), client_options={"api_endpoint": URL}
    )
    bucket = client.bucket("data")
    blob = bucket.blob("a/b c.txt")
    blob.metadata = {"who": "py"}
    blob.upload_from_string("hello", content_type="text/plain", if_generation_match=0)
    raises(
        412,
        lambda: bucket.blob("a/b c.txt").upload_from_string("no", if_generation_match=0),
    )
    again = bucket.get_blob("a/b c.txt")
    assert (again.content_type, again.metadata, again.size) == ("text/plain", {"who": "py"}, 5)
    assert again.download_as_bytes() == b"hello"
    assert again.download_as_bytes(start=1, end=3) == b"ell"

    data = bytes(range(256)) * 4096
    big = bucket.blob("big", chunk_size=256 * 1024)
    big.upload_from_file(io.BytesIO(data))
    assert bucket.blob("big").download_as_bytes() == data
    assert bucket.get_blob("big").size == len(data)

    packed = bucket.blob("packed")
    packed.content_encoding = "gzip"
    packed.upload_from_string(gzip.compress(b"plain"))
    assert bucket.blob("packed").download_as_bytes(raw_download=False) == b"plain"

    copy = bucket.blob("copy")
    token, written, total = copy.rewrite(big)
    while token:
        token, written, total = copy.rewrite(big, token=token)
    assert written == total == len(data)
    joined = bucket.blob("joined")
    joined.content_type = "text/plain"
    joined.compose([bucket.blob("a/b c.txt"), bucket.blob("a/b c.txt")])
    assert bucket.blob("joined").download_as_bytes() == b"hellohello"
    bucket.copy_blob(joined, bucket, "copied")

    pages = client.list_blobs("data", delimiter="/", page_size=2)
    names = [one.name for one in pages]
    assert names == ["big", "copied", "copy", "joined", "packed"], names
    assert pages.prefixes == {"a/"}
    again.metadata = {"who": "you"}
    again.patch(if_metageneration_match=1)
    raises(412, lambda: again.patch(if_metageneration_match=1))
    again.delete(if_generation_match=again.generation)
    raises(404, lambda: bucket.blob("a/b c.txt").delete())
    assert client.create_bucket("other-bucket").name == "other-bucket"


def signed_urls(key):
    from google.auth.crypt import RSASigner
    from google.oauth2 import service_account

    credentials = service_account.Credentials(
        RSASigner.from_string(key), "signer@py.iam.gserviceaccount.com", f"{URL}/token"
    )
    client = storage.Client(
        project="py", credentials=AnonymousCredentials(), client_options={"api_endpoint": URL}
    )
    blob = client.bucket("data").blob("signed/a b.txt")

    def url(method, **more):
        return blob.generate_signed_url(
            version="v4",
            expiration=60,
            method=method,
            credentials=credentials,
            api_access_endpoint=URL,
            **more,
        )

    put = url("PUT", content_type="text/plain")
    headers = {"Content-Type": "text/plain"}
    request = urllib.request.Request(put, data=b"signed", method="PUT", headers=headers)
    assert urllib.request.urlopen(request).status == 200
    assert urllib.request.urlopen(url("GET")).read() == b"signed"
    try:
        urllib.request.urlopen(url("GET").replace("a%20b", "b"))
        raise AssertionError("a tampered URL was served")
    except urllib.error.HTTPError as error:
        assert error.code == 403, error


secrets()
logs(jobs())
objects()
if os.environ.get("SIGNING_KEY"):
    signed_urls(os.environ["SIGNING_KEY"])
print("all passed")
