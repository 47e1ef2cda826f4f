"""Starts MiniStack with its ECS tasks on the host's network.

MiniStack puts a task of network mode `awsvpc` on the engine's bridge, from where nothing that is bound to 127.0.0.1
can be reached; it has no setting for that. Here such a task keeps its mode in the API and gets the host's network,
so that every server stays on 127.0.0.1 and the container reaches all of them, the metadata endpoint included.
It also hands the task definition's `entryPoint` to the engine, which MiniStack leaves out, and makes one log event
of a line that a program wrote in pieces, where MiniStack makes one of each piece. A container is removed only when
its log has been read: MiniStack loses the last lines of a stopped task now and then.
"""

import sys
import threading

from ministack import app
from ministack.services import ecs

build_run_kwargs, register_metadata = ecs._build_run_kwargs, ecs._register_metadata


def run_on_the_host(cdef, td, env, port_bindings, ecs_network, host_mode, *rest):
    kwargs = build_run_kwargs(cdef, td, env, None, ecs_network, True, *rest)
    if cdef.get("entryPoint"):
        kwargs["entrypoint"] = cdef["entryPoint"]
    return kwargs


def serve_metadata_on_the_host(task_arn, cluster_arn, td, cdef, launch_type, env, host_mode, ministack_net_ip):
    own_endpoint = env.get("AWS_ENDPOINT_URL")
    token = register_metadata(task_arn, cluster_arn, td, cdef, launch_type, env, True, ministack_net_ip)
    # ECS sets no such variable; MiniStack's would replace the one that the task was given.
    if own_endpoint:
        env["AWS_ENDPOINT_URL"] = own_endpoint
    return token


class WholeLines:
    """A container whose log stream is cut at line ends."""

    def __init__(self, container):
        self.container = container

    def logs(self, **options):
        rest = b""
        for chunk in self.container.logs(**options):
            *lines, rest = (rest + chunk).split(b"\n")
            if lines:
                yield b"\n".join(lines)
        yield rest


forward_awslogs, remove_container = ecs._forward_awslogs, ecs._remove_docker_container
being_read = {}


def forward_whole_lines(container, *rest):
    done = being_read.setdefault(container.id, threading.Event())
    try:
        forward_awslogs(WholeLines(container), *rest)
    finally:
        done.set()


def remove_when_read(docker_client, container_or_id):
    done = being_read.pop(getattr(container_or_id, "id", container_or_id), None)
    if done and not done.is_set():
        try:
            docker_client.containers.get(getattr(container_or_id, "id", container_or_id)).stop(timeout=5)
        except Exception:
            pass
        done.wait(5)
    remove_container(docker_client, container_or_id)


ecs._forward_awslogs = forward_whole_lines
ecs._remove_docker_container = remove_when_read
ecs._build_run_kwargs = run_on_the_host
ecs._register_metadata = serve_metadata_on_the_host
ecs._container_ip = lambda container, network: "127.0.0.1"

sys.argv[:] = ["ministack"]
app.main()
