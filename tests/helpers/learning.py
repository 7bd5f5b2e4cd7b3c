"""Ask a MONAI Label server to train, and wait for it."""

import json
import time
import urllib.request

FAST = {"max_epochs": 2, "learning_rate": 0.01, "device": "cpu"}


def ask(server, path, method="GET", **values):
    body = json.dumps(values).encode() if values else None
    request = urllib.request.Request(
        server.url + path, data=body, method=method, headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read())


def idle(server, method, seconds=150):
    """Wait until no task is queued or running; return the last one."""
    give_up = time.monotonic() + seconds
    while True:
        status, answer = server.request(f"/{method}/?all=true")
        tasks = json.loads(answer) if status == 200 else []
        if not any(task["status"] in ("SUBMITTED", "RUNNING") for task in tasks):
            return tasks[-1] if tasks else None
        assert time.monotonic() < give_up, tasks
        time.sleep(0.2)


def model_of(server):
    (name,) = ask(server, "/info/")["models"]
    return name
