"""Commands that are interrupted."""

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]


def interrupted(
    arguments: list[str], when: Callable[[], bool], log: Path, **options: object
) -> tuple[int, str]:
    """Runs a command, presses Ctrl-C once ``when`` holds, and returns its status and its words."""
    # In the background of a shell SIGINT is ignored, and children would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    command = [sys.executable, "-m", *arguments]
    with (
        log.open("w") as out,
        subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=out, **options) as process,
    ):
        try:
            limit = time.monotonic() + 120
            while not when() and process.poll() is None and time.monotonic() < limit:
                time.sleep(0.05)
            # Python drops an interrupt that comes while a weak reference is cleared: press again.
            for _ in range(4):
                process.send_signal(signal.SIGINT)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=20)
                    break
        finally:
            process.kill()
    return process.returncode, log.read_text()
