"""Asks each running emulator for the least that the tests need of it. Needs boto3 and run/env.

usage: . target/emulators/run/env && target/emulators/venv-moto/bin/python .ci/emulators/check.py
"""

import json
import os
import time
import urllib.request
import uuid
from concurrent.futures import ThreadPoolExecutor

import boto3
from botocore.exceptions import ClientError

KEYS = dict(region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test")
NAME = "check-" + uuid.uuid4().hex[:12]


def client(service, variable, **keys):
    return boto3.client(service, endpoint_url=os.environ[variable], **{**KEYS, **keys})


def http(method, url, body=None, **headers):
    headers = {k.replace("_", "-"): v for k, v in headers.items()}
    with urllib.request.urlopen(urllib.request.Request(url, body, headers, method=method), timeout=20) as answer:
        return answer.read()


def localstack():
    s3, secrets = client("s3", "ANYCLOUD_TEST_LOCALSTACK"), client("secretsmanager", "ANYCLOUD_TEST_LOCALSTACK")
    s3.create_bucket(Bucket=NAME)
    s3.put_object(Bucket=NAME, Key="k", Body=b"one", IfNoneMatch="*")
    try:
        s3.put_object(Bucket=NAME, Key="k", Body=b"two", IfNoneMatch="*")
        raise AssertionError("a create-only put replaced an object")
    except ClientError as error:
        assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 412, error
    assert s3.get_object(Bucket=NAME, Key="k")["Body"].read() == b"one"
    arn = secrets.create_secret(Name=NAME, SecretString="v")["ARN"]
    assert secrets.get_secret_value(SecretId=arn)["SecretString"] == "v"
    assert client("sts", "ANYCLOUD_TEST_LOCALSTACK").get_caller_identity()["Account"] == "000000000000"
    client("logs", "ANYCLOUD_TEST_LOCALSTACK").create_log_group(logGroupName=NAME)
    client("iam", "ANYCLOUD_TEST_LOCALSTACK").create_user(UserName=NAME)


def fake_gcs():
    base = os.environ["ANYCLOUD_TEST_FAKE_GCS"]
    http("POST", f"{base}/storage/v1/b", json.dumps({"name": NAME}).encode(), Content_Type="application/json")
    http("POST", f"{base}/upload/storage/v1/b/{NAME}/o?uploadType=media&name=k", b"one", Content_Type="text/plain")
    assert http("GET", f"{base}/storage/v1/b/{NAME}/o/k?alt=media") == b"one"


def moto():
    base = os.environ["ANYCLOUD_TEST_MOTO"]
    iam = client("iam", "ANYCLOUD_TEST_MOTO")
    iam.create_user(UserName=NAME)
    key = iam.create_access_key(UserName=NAME)["AccessKey"]
    http("POST", f"{base}/moto-api/reset-auth", b"0", Content_Type="text/plain")
    try:
        own = dict(aws_access_key_id=key["AccessKeyId"], aws_secret_access_key=key["SecretAccessKey"])
        client("s3", "ANYCLOUD_TEST_MOTO", **own).list_buckets()
        raise AssertionError("a user without a policy was allowed to list buckets")
    except ClientError as error:
        assert error.response["Error"]["Code"] == "AccessDenied", error
    finally:
        http("POST", f"{base}/moto-api/reset-auth", b"1000000000", Content_Type="text/plain")


def ministack():
    ecs, logs = client("ecs", "ANYCLOUD_TEST_MINISTACK"), client("logs", "ANYCLOUD_TEST_MINISTACK")
    network = {"awsvpcConfiguration": {"subnets": ["subnet-1"], "securityGroups": ["sg-1"]}}
    ecs.create_cluster(clusterName=NAME)
    logs.create_log_group(logGroupName=NAME)
    options = {"awslogs-group": NAME, "awslogs-region": "us-east-1", "awslogs-stream-prefix": "p"}
    for family, image in (("shell", os.environ["ANYCLOUD_TEST_SHELL_IMAGE"]), ("none", "docker.io/library/none:latest")):
        container = dict(name="main", image=image, essential=True, environment=[{"name": "A", "value": "defined"}],
                         logConfiguration={"logDriver": "awslogs", "options": options})
        ecs.register_task_definition(family=f"{NAME}-{family}", networkMode="awsvpc", cpu="256", memory="512",
                                     requiresCompatibilities=["FARGATE"], containerDefinitions=[container])
    service = dict(serviceName="web", taskDefinition=f"{NAME}-shell", desiredCount=0, launchType="FARGATE")
    assert ecs.create_service(cluster=NAME, networkConfiguration=network, **service)["service"]["networkConfiguration"] == network

    def run(command, family="shell", stop=False, **environment):
        override = {"name": "main", "command": ["sh", "-c", command],
                    "environment": [{"name": k, "value": v} for k, v in environment.items()]}
        task = ecs.run_task(cluster=NAME, taskDefinition=f"{NAME}-{family}", launchType="FARGATE",
                            networkConfiguration=network, overrides={"containerOverrides": [override]})["tasks"][0]["taskArn"]
        stream = f"p/main/{task.rsplit('/', 1)[1]}"

        def lines():
            try:
                events = logs.get_log_events(logGroupName=NAME, logStreamName=stream, startFromHead=True)["events"]
            except logs.exceptions.ResourceNotFoundException:
                return []
            return [event["message"] for event in events]

        until = time.time() + 60
        while time.time() < until:
            state = ecs.describe_tasks(cluster=NAME, tasks=[task])["tasks"][0]
            if state["lastStatus"] == "STOPPED":
                break
            if stop and state["lastStatus"] == "RUNNING" and lines():
                ecs.stop_task(cluster=NAME, task=task, reason="enough")
            time.sleep(0.1)
        time.sleep(0.5)
        return state["containers"][0].get("exitCode"), state.get("stopCode"), lines()

    exited = "EssentialContainerExited"
    object_url = None
    if "ANYCLOUD_TEST_LOCALSTACK" in os.environ:
        object_url = f"{os.environ['ANYCLOUD_TEST_LOCALSTACK']}/{NAME}/k"
    cases = [
        (("true",), {}, (0, exited, [])),
        (("exit 7",), {}, (7, exited, [])),
        (("exit 137",), {}, (137, exited, [])),
        (("echo $A $B",), {"B": "overridden"}, (0, exited, ["defined overridden"])),
        (("printf one; sleep 0.2; echo two",), {}, (0, exited, ["onetwo"])),
        (("true", "none"), {}, (None, "TaskFailedToStart", [])),
        (('trap "echo caught; exit 3" TERM; echo up; while :; do sleep 0.1; done', "shell", True), {},
         (0, "UserInitiated", ["up", "caught"])),
        (("wget -q -O - $ECS_CONTAINER_METADATA_URI_V4/task | grep -o FARGATE",), {}, (0, exited, ["FARGATE"])),
    ] + [((f"wget -q -O - {object_url}",), {}, (0, exited, ["one"]))] * bool(object_url)
    with ThreadPoolExecutor(4) as pool:
        for (args, _, expected), seen in zip(cases, pool.map(lambda case: run(*case[0], **case[1]), cases)):
            assert seen == expected, f"{args}: {seen}, not {expected}"


for variable, probe in (("LOCALSTACK", localstack), ("FAKE_GCS", fake_gcs), ("MOTO", moto), ("MINISTACK", ministack)):
    if f"ANYCLOUD_TEST_{variable}" in os.environ:
        begin = time.time()
        probe()
        print(f"{probe.__name__}: as expected, {time.time() - begin:.1f} s")
