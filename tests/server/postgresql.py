"""A PostgreSQL of the tests: a cluster in a folder of its own that listens at a Unix socket alone."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def find_programs() -> Path | None:
    """Returns the folder of initdb, which Debian keeps out of the path, or None."""
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return folders[-1] if folders else None


@contextmanager
def running_postgresql(programs: Path) -> Iterator[str]:
    """Yields the URL of an empty database."""
    # It does not run as root.
    user = pwd.getpwnam("nobody" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name)
    # The path of a socket has at most 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    os.chown(folder, user.pw_uid, user.pw_gid)

    def call(program: str, *arguments: str) -> None:
        command = [str(programs / program), "-D", str(folder / "data"), *arguments]
        identity = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if os.getuid() == 0 else {}
        # The server keeps what it inherits open, so a pipe would never end.
        with (folder / "log").open("ab") as log:
            subprocess.run(command, check=True, cwd=folder, stdout=log, stderr=log, **identity)

    try:
        call("initdb", "-U", "uniavgen", "-A", "trust", "--no-sync", "--no-locale", "-E", "UTF8")
        call("pg_ctl", "-w", "start", "-o", f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off")
        yield f"postgresql://uniavgen@/postgres?host={folder}"
        call("pg_ctl", "-w", "stop", "-m", "immediate")
    finally:
        shutil.rmtree(folder)
