"""Runs one build of the MMM example on every provider, with nothing but environment variables changed, and compares
what it prints to the last digit. Needs boto3, and the emulators' addresses in the environment.

usage: mmm-everywhere.py EXAMPLE GCP-EMULATOR IMAGE
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

import boto3

EXAMPLE, GCP_EMULATOR, IMAGE = sys.argv[1:4]
NAME = f"mmm-{os.getpid()}"
REGION = "us-east-1"
AWS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": REGION}


def run(provider, variables):
    """The report as it was printed. Only what the provider needs is in the environment."""
    begun = time.monotonic()
    environment = {key: os.environ[key] for key in ("PATH", "HOME", "RUST_LOG") if key in os.environ}
    environment |= {"CLOUD_PROVIDER": provider, **variables}
    done = subprocess.run([EXAMPLE], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=600)
    text = done.stdout.decode()
    print(f"--- example mmm on {provider}: exit code {done.returncode}, {time.monotonic() - begun:.1f} s", flush=True)
    if done.returncode != 0:
        sys.exit(f"the example failed on {provider}")
    return text


def local():
    with tempfile.TemporaryDirectory() as root:
        return run("local", {"ANYCLOUD_LOCAL_ROOT": root})


def aws():
    localstack, ministack = os.environ["ANYCLOUD_TEST_LOCALSTACK"], os.environ["ANYCLOUD_TEST_MINISTACK"]
    keys = dict(region_name=REGION, aws_access_key_id="test", aws_secret_access_key="test")
    boto3.client("s3", endpoint_url=localstack, **keys).create_bucket(Bucket=NAME)
    boto3.client("logs", endpoint_url=ministack, **keys).create_log_group(logGroupName=NAME)
    ecs = boto3.client("ecs", endpoint_url=ministack, **keys)
    ecs.create_cluster(clusterName=NAME)
    inside = {**AWS, "CLOUD_PROVIDER": "aws", "AWS_ENDPOINT_URL": localstack, "ANYCLOUD_BUCKET": NAME}
    log = {"awslogs-group": NAME, "awslogs-region": REGION, "awslogs-stream-prefix": "mmm"}
    ecs.register_task_definition(
        family=NAME,
        networkMode="awsvpc",
        requiresCompatibilities=["FARGATE"],
        cpu="1024",
        memory="2048",
        containerDefinitions=[{
            "name": "train",
            "image": IMAGE,
            "essential": True,
            "environment": [{"name": key, "value": value} for key, value in inside.items()],
            "logConfiguration": {"logDriver": "awslogs", "options": log},
        }],
    )
    ecs.create_service(
        cluster=NAME, serviceName=NAME, taskDefinition=NAME, desiredCount=0,
        networkConfiguration={"awsvpcConfiguration": {"subnets": ["subnet-1"], "assignPublicIp": "ENABLED"}},
    )
    return run("aws", {
        **AWS,
        "AWS_ENDPOINT_URL": localstack,
        "AWS_ENDPOINT_URL_ECS": ministack,
        "AWS_ENDPOINT_URL_CLOUDWATCH_LOGS": ministack,
        "ANYCLOUD_BUCKET": NAME,
        "ECS_CLUSTER": NAME,
        "ECS_SERVICE": NAME,
        "ECS_TASK_FAMILY": NAME,
    })


def gcp():
    storage = os.environ["ANYCLOUD_TEST_FAKE_GCS"]
    body = json.dumps({"name": NAME}).encode()
    request = urllib.request.Request(f"{storage}/storage/v1/b?project={NAME}", body,
                                     {"Content-Type": "application/json"}, method="POST")
    urllib.request.urlopen(request, timeout=20).read()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = f"http://127.0.0.1:{port}"
    variables = {
        "GOOGLE_CLOUD_PROJECT": NAME,
        "CLOUD_RUN_REGION": "europe-west1",
        "CLOUD_RUN_JOB_NAME": "mmm-train",
        "ANYCLOUD_BUCKET": NAME,
        "STORAGE_EMULATOR_HOST": storage,
        "SECRET_MANAGER_EMULATOR_HOST": own,
        "CLOUD_RUN_EMULATOR_HOST": own,
        "CLOUD_LOGGING_EMULATOR_HOST": own,
    }
    template = {"template": {"maxRetries": 0, "timeout": "600s", "containers": [{"image": "mmm"}]}}
    jobs = {
        "jobs": {f"projects/{NAME}/locations/europe-west1/jobs/mmm-train": {"template": template}},
        "images": {"mmm": [EXAMPLE]},
        "environment": {**variables, "CLOUD_PROVIDER": "gcp"},
    }
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(jobs, file)
        file.flush()
        server = subprocess.Popen([GCP_EMULATOR, "--port", str(port), "--jobs", file.name], stdout=subprocess.PIPE)
        try:
            server.stdout.readline()
            return run("gcp", variables)
        finally:
            server.terminate()
            server.wait(20)


reports = {provider.__name__: provider() for provider in (local, aws, gcp)}
print(reports["local"])
for provider, report in reports.items():
    if report != reports["local"]:
        print(report)
        sys.exit(f"the report of {provider} differs from that of local")
print("the three reports are the same to the last digit")
