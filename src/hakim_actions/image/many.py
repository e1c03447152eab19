"""Builds several images side by side, the base first, as many at once as the machine carries.

Each image that is built beside others has a process of its own. So one that fails, or that the
kernel kills for its memory, takes no other with it, and a signal ends every build the way it ends
a single one.
"""

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Final, TypeAlias

from hakim_actions.artifact import ArtifactName
from hakim_actions.errors import BuildError, HakimError
from hakim_actions.image import preflight, tmpfs
from hakim_actions.image.build import BuildOptions, Built, build
from hakim_actions.system import files, memory, process
from hakim_actions.system.progress import Progress

#: Memory of one build in bytes: packing's 400 MiB, and what apt, dpkg and the boot test need.
MEMORY_NEEDED: Final = 1_500_000_000
#: What the streams of one more image unpack to, in bytes; the largest has 3.3 GB with its base's.
_UNPACKED: Final = 3_000_000_000
_BASE: Final = "base"
#: A forked child has what this process has read and checked; nothing is passed but the result.
_PROCESSES: Final = multiprocessing.get_context("fork")

Outcome: TypeAlias = Built | HakimError
ProgressOf: TypeAlias = Callable[[ArtifactName], Progress]


def workers(images: int, *, work_dir: Path) -> int:
    """Return how many of *images* this machine builds at once, by processors, memory and disk.

    One more than processors: one waits for the disk or for a container to boot while the others
    compress, and no more encoders run than there are processors (:meth:`PieceStore.encoding`).
    """
    by_processors = len(os.sched_getaffinity(0)) + 1
    by_memory = memory.available() // MEMORY_NEEDED
    by_disk = files.free_bytes(work_dir) // preflight.DISK_NEEDED_ELSE
    return max(1, min(images, by_processors, by_memory, by_disk))


def rootfs_memory(images: int, *, work_dir: Path) -> int:
    """Return how many bytes of memory each of *images* has for its root file system, 0 for none."""
    return tmpfs.room(workers(images, work_dir=work_dir), beside=MEMORY_NEEDED)


def has_room_to_keep(images: int, *, work_dir: Path) -> bool:
    """Tell whether the disk, beside builds, holds what the archives of *images* unpack to."""
    builds = workers(images, work_dir=work_dir) * preflight.DISK_NEEDED_ELSE
    return files.free_bytes(work_dir) - builds >= images * _UNPACKED


def build_many(
    names: Sequence[ArtifactName],
    options: BuildOptions,
    *,
    alone: Progress,
    beside: ProgressOf,
) -> Iterator[tuple[ArtifactName, Outcome]]:
    """Build *names* and give what became of each as it ends; no failure ends the others.

    Only the base does, on whose layer the others stand. It comes first; who is built beside it
    fetches tools while it makes the layer. *alone* listens to images that are built one by one,
    *beside* gives the listener of one of several.
    """
    names = sorted(names, key=lambda name: name.variant != _BASE)
    stands_on_base = options.layers is not None
    if stands_on_base and any(name.variant == _BASE for name in names):
        options = replace(options, base_begun=_PROCESSES.Event())
    count = workers(len(names), work_dir=options.work_dir)
    if count == 1:
        outcomes = ((name, _tried(name, options, alone)) for name in names)
    else:
        outcomes = _side_by_side(names, count, lambda name: build(name, options, beside(name)))
    left = list(names)
    with contextlib.closing(outcomes):
        for name, outcome in outcomes:
            left.remove(name)
            yield name, outcome
            if stands_on_base and name.variant == _BASE and isinstance(outcome, HakimError):
                break
    msg = "Not built: it stands on the base image, which failed."
    yield from ((name, BuildError(msg)) for name in left)


def _tried(name: ArtifactName, options: BuildOptions, progress: Progress) -> Outcome:
    try:
        return build(name, options, progress)
    except HakimError as error:
        return error


def _side_by_side(
    names: Sequence[ArtifactName], count: int, work: Callable[[ArtifactName], Built]
) -> Generator[tuple[ArtifactName, Outcome], None, None]:
    """Run *work* for each of *names* in a process of its own, *count* at once."""
    waiting = list(names)
    running: dict[Connection, tuple[ArtifactName, BaseProcess]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < count:
                name = waiting.pop(0)
                receiver, child = _start(name, work)
                running[receiver] = name, child
            for ready in wait(list(running)):
                assert isinstance(ready, Connection)  # noqa: S101 - narrows what wait() declares
                name, child = running.pop(ready)
                yield name, _outcome(name, ready, child)
    finally:
        for _, child in running.values():
            child.terminate()
        for _, child in running.values():
            child.join()


def _start(
    name: ArtifactName, work: Callable[[ArtifactName], Built]
) -> tuple[Connection, BaseProcess]:
    receiver, sender = _PROCESSES.Pipe(duplex=False)
    child = _PROCESSES.Process(target=_child, args=(name, work, sender), name=name.stem)
    child.start()
    sender.close()
    return receiver, child


def _child(name: ArtifactName, work: Callable[[ArtifactName], Built], sender: Connection) -> None:
    """Send what became of *name*: the built image, or message and hint of its error."""
    # Ctrl-C reaches the parent, too, which then ends its children in one way only.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    process.end_with_parent(signal.SIGTERM)
    try:
        sender.send(work(name))
    except HakimError as error:
        sender.send((error.message, error.hint))
    except Exception as error:  # noqa: BLE001 - a bug in one build is the failure of one image
        sender.send((f"Unexpected {type(error).__name__}: {error}", "This is a bug."))
    except BaseException:  # noqa: BLE001 - a signal unwound the build; the parent knows of it
        os._exit(128 + signal.SIGTERM)


def _outcome(name: ArtifactName, receiver: Connection, child: BaseProcess) -> Outcome:
    try:
        sent: Built | tuple[str, str] = receiver.recv()
    except EOFError:
        child.join()
        code = child.exitcode or 0
        how = signal.Signals(-code).name if code < 0 else f"status {code}"
        msg = f"The build of {name.stem} was ended by {how}."
        return BuildError(msg, hint="SIGKILL is often the kernel, out of memory; see dmesg.")
    finally:
        receiver.close()
    child.join()
    return sent if isinstance(sent, Built) else BuildError(sent[0], hint=sent[1])
