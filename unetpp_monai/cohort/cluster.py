"""Workers on other machines: Ray actors that hold the model. A dead actor is replaced on any machine."""

import os
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from ..errors import OutputError, UnetppError
from ..faults import STOP
from .dispatch import Lost
from .ledger import Ledger, Outcome
from .loop import Loop
from .messages import Broken, Start
from .work import Task

IN_FLIGHT = 2  # cases given to an actor: one in work and one waiting, so that it is never idle
LOOPBACK = "127.0.0.1"
REACHED_SECONDS = 10.0  # to wait for an answer from an address
HEARD_SECONDS = 10.0  # between two checks that the head lives
CLIENT = "ray://"  # scheme of Ray Client addresses, for programs outside of the cluster
NAMED = "RAY_ADDRESS"  # Ray's environment variable for the address of a cluster
AUTO = "auto"  # the cluster that runs on this machine, else a new one on this machine alone
SHORT_OF_MEMORY = "low on memory"  # in Ray's message about actors that it ended
OFF = {"RAY_USAGE_STATS_ENABLED": "0"}  # nothing is reported to anyone


class LoopActor:
    """A loop in a process of the cluster.

    Args:
        start: what to load and where to write.
    """

    def __init__(self, start: Start) -> None:
        self._broken: Broken | None = None
        try:
            segments = start.builds()
            self._loop = Loop(segments, start.work, Ledger(start.output, keyed=start.keyed)).__enter__()
        except STOP:
            raise
        except BaseException as error:  # noqa: BLE001 - reported to the driver; Ray would retry a failing constructor
            self._broken = Broken(f"{'' if isinstance(error, UnetppError) else type(error).__name__ + ': '}{error}")

    def segment(self, task: Task) -> Outcome | Broken:
        """Segment a case."""
        return self._broken or self._loop(task)


@dataclass
class _Actor:
    """An actor, and its cases in order."""

    handle: Any
    refs: list[Any] = field(default_factory=list)


class Actors:
    """A crew of actors of a Ray cluster.

    Args:
        address: of the cluster, or `AUTO`.
        start: first message to each actor.
        count: number of actors; 0: one per GPU, or per machine.
        gpu: each actor needs a GPU.
    """

    def __init__(self, address: str, start: Start, *, count: int = 0, gpu: bool = False) -> None:
        self._address, self._start, self._count, self._gpu = address, start, count, gpu
        self._actors: list[_Actor] = []
        self._tasks: dict[Any, Task] = {}
        self._ray = _import_ray()
        self._head, self._heard = "", 0.0  # address of the head node, and when it last answered

    def __enter__(self) -> "Actors":
        quiet: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
        if address := self._reached():
            self._ray.init(address=address, **quiet)
        else:
            # else Ray replaces the loopback address by the machine's, and listens on the network
            self._ray._private.ray_constants.ENABLE_RAY_CLUSTER = False
            self._ray.init(address="local", _node_ip_address=LOOPBACK, include_dashboard=False, **quiet)
        outside = address.startswith(CLIENT)  # then the head may not be reachable from here
        self._head = address if outside else self._ray.get_runtime_context().gcs_address
        self._heard = time.monotonic()
        found = self._ray.cluster_resources()
        nodes = sum(node["Alive"] for node in self._ray.nodes())
        count = self._count or int(found.get("GPU", 0) if self._gpu else nodes)
        if count < 1:
            raise OutputError("a cluster must have a GPU for device cuda, got none; use device cpu")
        self._actors = [_Actor(self._begin()) for _ in range(count)]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for actor in (
            self._actors if self._head else ()
        ):  # without a head none can be killed; their machines end them within a minute
            self._ray.kill(actor.handle)
        self._ray.shutdown()

    def has_room(self) -> bool:
        """As `Crew.has_room`."""
        return any(len(actor.refs) < IN_FLIGHT for actor in self._actors)

    def give(self, task: Task) -> None:
        """As `Crew.give`."""
        self._give(min(self._actors, key=lambda actor: len(actor.refs)), task)

    def wait(self) -> Sequence[Outcome | Lost]:
        """As `Crew.wait`.

        Raises:
            OutputError: the model cannot be loaded, or the cluster is lost.
        """
        events: list[Outcome | Lost] = []
        ready, _ = self._ray.wait(list(self._tasks), num_returns=1, timeout=HEARD_SECONDS)
        self._hear()
        for ref in ready:
            actor = next(actor for actor in self._actors if ref in actor.refs)
            task = self._tasks.pop(ref)
            try:
                said = self._ray.get(ref)
            except (self._ray.exceptions.RayActorError, self._ray.exceptions.OutOfMemoryError) as error:
                events += self._lost(actor, ref, task, error)
            except self._ray.exceptions.RayError as error:
                message = f"the Ray cluster must keep running, got {_line(error)}; start again to continue"
                raise OutputError(message) from error
            else:
                actor.refs.remove(ref)
                if isinstance(said, Broken):
                    raise OutputError(said.message)
                events.append(said)
        return events

    def _reached(self) -> str:
        """Return the address of the cluster; empty: none runs on this machine, or its head is lost."""
        if self._address != AUTO:
            _check_reached(self._address)
            return self._address
        try:
            found = str(self._ray._private.services.get_ray_address_from_environment(AUTO, None))
        except ConnectionError:
            return ""
        if os.environ.get(NAMED):
            _check_reached(found)
        return "" if _silence_of(found) else found

    def _hear(self) -> None:
        """Check that the head node lives; a minute after its death, Ray would end this process silently."""
        if time.monotonic() - self._heard < HEARD_SECONDS:
            return
        if silence := _silence_of(self._head):
            what = f"a Ray cluster must keep its head, got {silence} at {self._head}"
            self._head = ""
            raise OutputError(f"{what}; start again to continue")
        self._heard = time.monotonic()

    def _begin(self) -> Any:
        """Make an actor. Ray starts none again by itself: it would refuse cases until it has."""
        options = {"num_cpus": 1, "num_gpus": 1 if self._gpu else 0, "max_restarts": 0, "max_task_retries": 0}
        return self._ray.remote(LoopActor).options(**options, scheduling_strategy="SPREAD").remote(self._start)

    def _give(self, actor: _Actor, task: Task) -> None:
        ref = actor.handle.segment.remote(task)
        actor.refs.append(ref)
        self._tasks[ref] = task

    def _lost(self, actor: _Actor, ref: Any, task: Task, error: Exception) -> list[Lost]:
        """Replace a dead actor, give it the case that waited, and return the case that was lost."""
        waited = [self._tasks.pop(other) for other in actor.refs if other != ref]
        if actor.refs[0] != ref:  # Ray reports the waiting case first
            waited, task = [task, *waited[1:]], waited[0]
        actor.handle, actor.refs = self._begin(), []
        for other in waited:
            self._give(actor, other)
        memory = SHORT_OF_MEMORY in str(error)
        return [Lost(task.case, "was ended for lack of memory" if memory else "died", memory)]


def _check_reached(address: str) -> None:
    """Check that an address answers; Ray itself would try for minutes.

    Raises:
        OutputError: it does not.
    """
    if silence := _silence_of(address):
        what = f"a Ray cluster must be reached at {address}, got {silence}"
        raise OutputError(f"{what}; start it, or name another as host:port")


def _silence_of(address: str) -> str:
    """Return why an address does not answer; empty: it does."""
    host, _, port = address.removeprefix(CLIENT).rpartition(":")
    try:
        socket.create_connection((host, int(port)), REACHED_SECONDS).close()
    except (OSError, ValueError) as error:
        return _line(error)
    return ""


def _line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def _import_ray() -> Any:
    for name, value in OFF.items():
        os.environ.setdefault(name, value)
    try:
        import ray
        import ray._private.ray_constants
        import ray._private.services
        import ray.exceptions
    except ImportError as error:
        raise OutputError("a cluster needs Ray; pip install 'unetpp_monai[cluster]'") from error
    return ray
