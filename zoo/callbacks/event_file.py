"""An event file that an interrupted run goes on with.

TensorBoard's own writer opens a new file each time; what was written after the last checkpoint would then be shown
twice. Here a checkpoint notes how long the file was, and a resumed run goes on from there: what comes after is cut off,
in a copy with a new name, so that a server which is reading the old one sees a file go and another come.
"""

import os
import socket
import struct
import time
import uuid
from pathlib import Path
from typing import Any

from tensorboard.compat.proto import summary_pb2
from tensorboard.compat.proto.event_pb2 import Event, SourceMetadata
from tensorboard.summary.writer.event_file_writer import _AsyncWriter
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard.writer import FileWriter, SummaryWriter

from zoo.callbacks.tags import described
from zoo.errors import UserError

PATTERN = "events.out.tfevents.*"
KINDS = {  # {field of a value: (tab that shows it, kind of its data)}
    "simple_value": ("scalars", summary_pb2.DATA_CLASS_SCALAR),
    "histo": ("histograms", summary_pb2.DATA_CLASS_TENSOR),
    "image": ("images", summary_pb2.DATA_CLASS_BLOB_SEQUENCE),
}


def event_files(folder: Path) -> list[Path]:
    """The event files of a run folder, oldest first."""
    return sorted(folder.glob(PATTERN))


def whole_records(path: Path, most: int) -> int:
    """Bytes of the whole records among the first `most` bytes; a killed run may leave half a record at the end."""
    end, size = 0, min(most, path.stat().st_size)
    with path.open("rb") as file:
        while True:
            file.seek(end)
            header = file.read(8)
            if len(header) < 8:
                return end
            following = end + 8 + 4 + struct.unpack("<Q", header)[0] + 4  # length, its checksum, data, its checksum
            if following > size:
                return end
            end = following


def go_on(folder: Path, position: int) -> Path:
    """Leaves one event file in `folder`, with the first `position` bytes of the run's; returns its path."""
    name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}.{uuid.uuid4().hex[:6]}"
    target, older = folder / name, event_files(folder)
    longest = max(older, key=lambda path: path.stat().st_size, default=None)
    if longest is not None and position:
        temporary = folder / f".{name}.tmp"
        try:
            with longest.open("rb") as source, temporary.open("wb") as copy:
                left = whole_records(longest, position)
                while left:
                    left -= copy.write(source.read(min(left, 2**20)))
                copy.flush()
                os.fsync(copy.fileno())
            temporary.replace(target)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
    for path in older:
        path.unlink()
    return target


def full(path: Path, error: OSError) -> str:
    return (
        f"The curves cannot be written to {path}: {error.strerror}. What was saved before is untouched; free some "
        "space and resume, or choose another run_dir."
    )


def explain(value: Any) -> None:
    """Writes beside a value what its chart shows, which the tabs have behind an "i"; call it for the first of a tag."""
    text = described(value.tag.removesuffix("/text_summary"))
    if not text:
        return
    value.metadata.summary_description = text
    if value.WhichOneof("value") in KINDS:  # else it says itself where it belongs
        tab, value.metadata.data_class = KINDS[value.WhichOneof("value")]
        value.metadata.plugin_data.plugin_name = tab


class Disk:
    """A file that is appended to. An error is kept for whoever asks, since a thread in the background writes."""

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self.size = os.fstat(self.descriptor).st_size
        self.waiting = bytearray()
        self.error: OSError | None = None

    def write(self, data: bytes) -> None:
        self.waiting += data

    def flush(self) -> None:
        data, self.waiting = bytes(self.waiting), bytearray()
        while data and self.error is None:
            try:
                written = os.write(self.descriptor, data)
            except OSError as error:
                self.error = error
                return
            self.size += written
            data = data[written:]

    def close(self) -> None:
        self.flush()
        os.close(self.descriptor)


class EventFile:
    """What torch's `FileWriter` writes to: TensorBoard's record format, appended to a plain file.

    Args:
        folder: where the file lies.
        position: bytes of an earlier event file in this folder to go on from; None starts a new one beside it.
        flush_secs: most seconds until an event is on disk.
    """

    def __init__(self, folder: str | Path, position: int | None, flush_secs: int) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        if position is None:
            name = f"{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}.{uuid.uuid4().hex[:6]}"
            self.path = self.folder / f"events.out.tfevents.{name}"
        else:
            try:
                self.path = go_on(self.folder, position)
            except OSError as error:
                raise UserError(full(self.folder, error)) from error
        self.file = Disk(self.path)
        self.explained: set[str] = set()  # tags
        self.writer = _AsyncWriter(RecordWriter(self.file), max_queue_size=100, flush_secs=flush_secs)
        if self.file.size == 0:
            version = Event(wall_time=time.time(), file_version="brain.Event:2")
            version.source_metadata.CopyFrom(SourceMetadata(writer="zoo"))
            self.add_event(version)
            self.flush()

    def get_logdir(self) -> str:
        return str(self.folder)

    def add_event(self, event: Any) -> None:
        self.check()
        for value in event.summary.value:
            if value.tag not in self.explained:
                self.explained.add(value.tag)
                explain(value)
        self.writer.write(event.SerializeToString())

    def check(self) -> None:
        """Raises UserError where something could not be written."""
        if self.file.error is not None:
            raise UserError(full(self.path, self.file.error))

    def flush(self) -> None:
        self.writer.flush()
        self.check()

    def position(self) -> int:
        """Bytes written so far, once everything that waits is on disk."""
        self.flush()
        return self.file.size

    def close(self) -> None:
        self.writer.close()


class RunWriter(SummaryWriter):
    """torch's SummaryWriter over an `EventFile`."""

    def __init__(self, folder: str | Path, position: int | None = None, flush_secs: int = 5) -> None:
        self.position_at_start = position
        super().__init__(log_dir=str(folder), flush_secs=flush_secs)

    def _get_file_writer(self) -> Any:
        if self.all_writers is None or self.file_writer is None:
            writer: Any = FileWriter.__new__(FileWriter)
            writer.event_writer = EventFile(self.log_dir, self.position_at_start, self.flush_secs)
            everything: Any = {writer.get_logdir(): writer}
            self.file_writer, self.all_writers = writer, everything
        return self.file_writer

    def position(self) -> int:
        return self._get_file_writer().event_writer.position()
