"""Event files for TensorBoard.

Owns one folder an agent; refuses to know what is measured. Invariant: when ``add`` returns, the point is in the file.
"""

# The classes of its protocol buffers are made when it is imported, so no checker of types sees them.
# pyright: basic, reportAttributeAccessIssue=false

from __future__ import annotations

from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from metaclaw.learner.tracking.tracker import Point


class TensorBoardFiles:
    """Below ``folder``, which `tensorboard --logdir` takes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writers: dict[str, EventFileWriter] = {}

    def add(self, point: Point) -> None:
        writer = self._writers.get(point.agent)
        if writer is None:
            writer = self._writers[point.agent] = EventFileWriter(str(self._folder / point.agent))
        values = [Summary.Value(tag=name, simple_value=value) for name, value in point.numbers.items()]
        writer.add_event(Event(wall_time=point.at, step=point.step, summary=Summary(value=values)))
        writer.flush()

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()


def create(folder: Path, home: str) -> TensorBoardFiles:
    """``home`` is of no use here: the folder is this home's."""
    return TensorBoardFiles(folder)
