"""The store: one SQLite file per run, appended to in one transaction per finished batch, never rewritten.

Images lie in the same file as the measurements that name them, so that a crash leaves both or neither. They are
content-addressed: equal images are kept once.
"""

from __future__ import annotations

import fcntl
import json
import sqlite3
import time
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, Any, Self

from deploy_robust.boundary import MalformedError, parse_json, require_limits, validated
from deploy_robust.errors import RunError
from deploy_robust.gate.records import digest_of
from deploy_robust.gate.rows import COLUMNS, checked, from_row, to_png, to_row
from deploy_robust.gate.run_spec import RUN_SPEC, Count, required_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from deploy_robust.gate.records import Batch, BatchResult, Case, Measurement

SCHEMA_VERSION = 1
FILE_NAME = "run.sqlite"

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE batch (
    number INTEGER PRIMARY KEY, digest TEXT NOT NULL, cases INTEGER NOT NULL, finished_at REAL NOT NULL
);
CREATE TABLE measurement (
    id INTEGER PRIMARY KEY, batch INTEGER NOT NULL REFERENCES batch(number),
    pair TEXT NOT NULL, attack TEXT NOT NULL, level REAL NOT NULL, scene TEXT NOT NULL,
    role TEXT NOT NULL, delivery TEXT NOT NULL, metrics TEXT NOT NULL,
    defect TEXT, defect_detail TEXT, input_image TEXT NOT NULL, output_image TEXT NOT NULL
);
CREATE INDEX measurement_batch ON measurement(batch);
CREATE TABLE image (sha256 TEXT PRIMARY KEY, png BLOB NOT NULL) WITHOUT ROWID;
"""


class SqliteStore:
    """The measurements and images of one run folder.

    One process at a time: the file is locked for as long as the store is open for writing.

    Attributes:
        folder: The run folder.
    """

    def __init__(
        self, folder: Path, connection: sqlite3.Connection, lock: IO[str] | None, clock: Callable[[], float]
    ) -> None:
        self.folder = folder
        self._db = connection
        self._lock = lock
        self._clock = clock

    @classmethod
    def create_or_resume(
        cls,
        folder: Path,
        plan: Mapping[str, Any],
        *,
        continued: Callable[[Mapping[str, Any], Mapping[str, Any]], Mapping[str, Any] | None] = lambda *_: None,
        clock: Callable[[], float] = time.time,
    ) -> SqliteStore:
        """Opens a run folder for writing; a new one is made for `plan`, an old one must have been made for the same.

        Args:
            folder: The run folder; made where it does not exist.
            plan: Plain data that names everything the measurements depend on.
            continued: Of (the stored plan, the wanted one), the plan with which an old run goes on to more of the same;
                None where it does not. The stored one is kept among `earlier_plans`.
            clock: Seconds since the epoch; only noted beside batches, nothing is ordered by it.

        Raises:
            RunError: Another process works on the folder, it belongs to another plan, or it cannot be written.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unwritable(folder, error) from error
        return cls._locked(folder, clock, lambda store: store._prepare(plan, continued))

    @classmethod
    def reopen(cls, folder: Path, *, clock: Callable[[], float] = time.time) -> SqliteStore:
        """Opens a run that is there for writing, whatever its plan.

        Raises:
            RunError: There is no run, another process works on it, or it cannot be written.
        """
        _require_run(folder)
        return cls._locked(folder, clock, cls._check_schema)

    @classmethod
    def read(cls, folder: Path) -> SqliteStore:
        """Opens a finished or interrupted run for reading.

        Raises:
            RunError: There is no run, or it was written by another version of the schema.
        """
        _require_run(folder)
        store = cls(folder, _connect_to_read(folder / FILE_NAME), None, time.time)
        try:
            store._check_schema()
        except BaseException:
            store.close()
            raise
        return store

    @classmethod
    def _locked(cls, folder: Path, clock: Callable[[], float], prepare: Callable[[SqliteStore], None]) -> SqliteStore:
        try:
            lock = (folder / ".lock").open("w")
        except OSError as error:
            raise _unwritable(folder, error) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.close()
            raise RunError(f"another process works on the run folder {folder}: wait for it or use --out") from error
        try:
            store = cls(folder, _connect(folder / FILE_NAME), lock, clock)
            prepare(store)
        except BaseException:
            lock.close()
            raise
        return store

    def _prepare(
        self,
        plan: Mapping[str, Any],
        continued: Callable[[Mapping[str, Any], Mapping[str, Any]], Mapping[str, Any] | None],
    ) -> None:
        with self._transaction():
            tables = {row[0] for row in self._db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if "meta" not in tables:
                for statement in _SCHEMA.split(";"):
                    self._db.execute(statement)
                self._set("schema", SCHEMA_VERSION)
                self._set("plan", plan)
                self._set("created_at", self._clock())
        self._check_schema()
        stored = self.plan
        wanted = json.loads(json.dumps(plan))
        if stored != wanted and (longer := continued(stored, wanted)) is not None:
            wanted = json.loads(json.dumps(longer))
            if stored != wanted:
                with self._transaction():
                    self._set("earlier_plans", [*self.earlier_plans, stored])
                    self._set("plan", wanted)
                stored = wanted
        if stored != wanted:
            keys = sorted(key for key in {*stored, *wanted} if stored.get(key) != wanted.get(key))
            raise RunError(
                f"the run folder {self.folder} was made for another check (different: {', '.join(keys)}): "
                "name another one with --out, or repeat the command that made it"
            )

    def _check_schema(self) -> None:
        try:
            row = self._db.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()
        except sqlite3.DatabaseError as error:
            raise RunError(f"{self.folder / FILE_NAME} is not a run of deploy-robust: {error}") from error
        found = None if row is None else self._decoded(row[0], Any)
        if found != SCHEMA_VERSION:
            raise RunError(
                f"the run in {self.folder} has schema {found} and this version reads {SCHEMA_VERSION}: "
                "read it with the version that wrote it, or check again"
            )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            self._roll_back()
            raise RunError(
                f"cannot write {self.folder / FILE_NAME}: {error}; what was finished before is kept, nothing of the "
                "batch is: make room and repeat the same command to go on"
            ) from error
        except BaseException:
            self._roll_back()
            raise

    def _roll_back(self) -> None:
        # On a full disk even that may fail; what was not committed is then forgotten when the file is opened again.
        with suppress(sqlite3.Error):
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")

    def _set(self, key: str, value: Any) -> None:
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, json.dumps(value)))

    # -- writing

    def append(self, index: int, batch: Batch, result: BatchResult) -> None:
        """Keeps a batch whole or not at all.

        Raises:
            RunError: The disk is full or the file cannot be written; the batch is not kept.
        """
        with self._transaction():
            self._db.execute(
                "INSERT INTO batch VALUES (?, ?, ?, ?)", (index, digest_of(batch), len(batch), self._clock())
            )
            self._db.executemany(
                "INSERT OR IGNORE INTO image VALUES (?, ?)",
                [(sha256, to_png(image)) for sha256, image in result.images.items() if not self._has_image(sha256)],
            )
            self._db.executemany(
                f"INSERT INTO measurement (batch, {COLUMNS}) VALUES ({', '.join('?' * 12)})",  # noqa: S608
                [to_row(index, measurement) for measurement in result.measurements],
            )

    def _has_image(self, sha256: str) -> bool:
        return self._db.execute("SELECT 1 FROM image WHERE sha256 = ?", (sha256,)).fetchone() is not None

    def note(self, key: str, value: Any) -> None:
        """Keeps a fact about the run that no measurement depends on, like the verdict or the time spent."""
        with self._transaction():
            self._set(f"note:{key}", value)

    def prune(self, keep: Collection[str] = ()) -> int:
        """Drops images for good and gives their room back; measurements stay.

        Args:
            keep: SHA-256 of images that stay.

        Returns:
            How many images were dropped.

        Raises:
            RunError: The file cannot be written.
        """
        with self._transaction():
            dropped = [sha256 for sha256 in self.image_names() if sha256 not in keep]
            self._db.executemany("DELETE FROM image WHERE sha256 = ?", [(sha256,) for sha256 in dropped])
        try:
            self._db.execute("VACUUM")
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error as error:
            raise RunError(
                f"the images are dropped and {self.folder / FILE_NAME} could not be made smaller ({error}): "
                "make room for a copy of the file and prune again"
            ) from error
        return len(dropped)

    # -- reading

    def _rows(self, query: str, values: Sequence[Any] = (), form: Any = None) -> Iterator[Any]:
        """Rows of one value, each of a form; without one, whole rows as they are."""
        try:
            for row in self._db.execute(query, values):
                if form is None:
                    yield row
                else:
                    require_limits(list(row))
                    yield validated(form, row[0])
        except (sqlite3.Error, MalformedError) as error:
            raise self.damaged(error) from error

    def damaged(self, error: Exception) -> RunError:
        """The error to raise for content that cannot be used."""
        if isinstance(error, MalformedError):
            return RunError(f"{self.folder / FILE_NAME} {error}; move the folder away and check again")
        return RunError(f"{self.folder / FILE_NAME} is damaged: {error}; move the folder away and check again")

    def _decoded(self, text: Any, form: Any) -> Any:
        """Plain data of a form, from JSON."""
        try:
            data = parse_json(validated(str, text) if not isinstance(text, bytes) else text)
            validated(form, data)
        except MalformedError as error:
            raise self.damaged(error) from error
        return data

    def _row(self, query: str, values: Sequence[Any] = (), form: Any = None) -> Any:
        return next(self._rows(query, values, form), None)

    def _meta(self, key: str, form: Any) -> Any:
        row = self._row("SELECT value FROM meta WHERE key = ?", (key,))
        return None if row is None else self._decoded(row[0], form)

    @property
    def plan(self) -> dict[str, Any]:
        """What the run was made for."""
        return self._plan(dict[str, Any])

    @property
    def spec(self) -> dict[str, Any]:
        """The same, after it was held against `RUN_SPEC`: what readers of plans rely on is there."""
        plan = self._plan(RUN_SPEC)
        try:
            validated(required_of(plan), plan)
        except MalformedError as error:
            raise self.damaged(error) from error
        return plan

    def _plan(self, form: Any) -> dict[str, Any]:
        plan: dict[str, Any] | None = self._meta("plan", form)
        if plan is None:
            raise self.damaged(MalformedError("is damaged (it has no plan)"))
        return plan

    @property
    def earlier_plans(self) -> list[dict[str, Any]]:
        """Plans that the run was continued from, the oldest first."""
        return self._meta("earlier_plans", list[dict[str, Any]]) or []

    def noted(self, key: str, form: Any) -> Any:
        """A fact of a form that `note` has kept; None where there is none."""
        return self._meta(f"note:{key}", form)

    def finished(self) -> list[str]:
        """Digests of the finished batches, in order."""
        return list(self._rows("SELECT digest FROM batch ORDER BY number", form=str))

    @property
    def cases(self) -> int:
        """How many cases are finished."""
        return sum(self._rows("SELECT cases FROM batch", form=Count))

    @property
    def touched_at(self) -> float:
        """When the last batch was finished, or the run was made, in seconds since the epoch."""
        last: float | None = self._row("SELECT MAX(finished_at) FROM batch", form=float | None)
        return float(self._meta("created_at", float) or 0.0) if last is None else last

    def batch_of(self, case: Case) -> int | None:
        """The batch that measured a case; None where none did."""
        number: int | None = self._row(
            "SELECT batch FROM measurement WHERE pair = ? AND attack = ? AND level = ? LIMIT 1",
            (case.pair, case.attack, case.level),
            form=int,
        )
        return number

    def measurements(self, batch: int | None = None) -> Iterator[Measurement]:
        """The measurements of one batch, or of all, in the order of execution."""
        where, values = ("", ()) if batch is None else ("WHERE batch = ?", (batch,))
        for row in self._rows(f"SELECT {COLUMNS} FROM measurement {where} ORDER BY id", values):  # noqa: S608
            try:
                yield from_row(row)
            except MalformedError as error:
                raise self.damaged(error) from error

    def image_names(self) -> list[str]:
        """SHA-256 of every image that the run holds, in order of the digest."""
        return list(self._rows("SELECT sha256 FROM image ORDER BY sha256", form=str))

    def image(self, sha256: str) -> NDArray[np.uint8]:
        """An image (H, W, 3) uint8 by its SHA-256.

        Raises:
            RunError: The run does not hold it, or holds other pixels under its name.
        """
        return self._image(sha256)[1]

    def png(self, sha256: str) -> bytes:
        """The same, as the bytes of a PNG file."""
        return self._image(sha256)[0]

    def _image(self, sha256: str) -> tuple[bytes, NDArray[np.uint8]]:
        row = self._row("SELECT png FROM image WHERE sha256 = ?", (sha256,))
        if row is None:
            raise RunError(f"the run in {self.folder} holds no image {sha256[:12]}: it was pruned or never kept")
        try:
            return row[0], checked(row[0], sha256)
        except MalformedError as error:
            raise self.damaged(error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file and lets others work on the folder."""
        self._db.close()
        if self._lock is not None:
            self._lock.close()


def _require_run(folder: Path) -> None:
    if not (folder / FILE_NAME).is_file():
        raise RunError(f"{folder} is not a run folder: it holds no {FILE_NAME}")


def _unwritable(folder: Path, error: OSError) -> RunError:
    return RunError(f"cannot write the run folder {folder}: {error.strerror}; name another with --out")


def _connect(path: Path) -> sqlite3.Connection:
    try:
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        # A committed batch survives a power cut, not only a crash of this process.
        connection.execute("PRAGMA synchronous = FULL")
    except sqlite3.Error as error:
        raise _unreadable(path, error) from error
    return connection


def _connect_to_read(path: Path) -> sqlite3.Connection:
    """A connection that writes nothing, also where nothing can be written.

    SQLite reads a file in WAL mode only where it may make files beside it, or is told that nobody changes it. The
    latter is true of a finished run in a folder that is read-only; it would pass over what stands in a log.
    """
    try:
        return _opened(path, "mode=rw")
    except sqlite3.OperationalError as error:
        log = path.with_name(f"{path.name}-wal")
        if log.exists() and log.stat().st_size:
            raise RunError(
                f"cannot read {path}: {error}; it was not closed and is read-only: copy it to where you may write"
            ) from error
        try:
            return _opened(path, "immutable=1")
        except sqlite3.Error as again:
            raise _unreadable(path, again) from again
    except sqlite3.Error as error:
        raise _unreadable(path, error) from error


def _opened(path: Path, how: str) -> sqlite3.Connection:
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True, isolation_level=None)
    try:
        connection.execute("SELECT 1 FROM sqlite_master").fetchone()
    except sqlite3.Error:
        connection.close()  # which takes away what SQLite has put beside the file
        raise
    return connection


def _unreadable(path: Path, error: sqlite3.Error) -> RunError:
    return RunError(
        f"cannot open {path}: {error}; it is damaged or none of our runs: name another folder, or move it away"
    )
