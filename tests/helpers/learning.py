"""Ask a MONAI Label server to train, and wait for it."""

import json
import urllib.request

from helpers.waiting import DEADLINE, wait_for

FAST = {"max_epochs": 2, "learning_rate": 0.01, "device": "cpu"}


def ask(server, path, method="GET", **values):
    body = json.dumps(values).encode() if values else None
    request = urllib.request.Request(
        server.url + path, data=body, method=method, headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=DEADLINE) as answer:
        return json.loads(answer.read())


def idle(server, method):
    """Wait until no task is queued or running; return the last one."""

    def tasks():
        status, answer = server.request(f"/{method}/?all=true")
        return json.loads(answer) if status == 200 else []

    wait_for(lambda: not any(task["status"] in ("SUBMITTED", "RUNNING") for task in tasks()), f"the end of {method}")
    return (tasks() or [None])[-1]


def model_of(server):
    (name,) = ask(server, "/info/")["models"]
    return name
