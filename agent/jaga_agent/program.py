"""Runs another program for an adapter, and leaves nothing of it behind."""

from __future__ import annotations

import asyncio


async def run(
    *words: str, stdin: bytes, timeout_s: float, pass_fds: tuple[int, ...] = ()
) -> tuple[int, bytes, bytes]:
    """Return its exit status, standard output and standard error.

    Raises:
        FileNotFoundError: it is not installed.
        OSError: it cannot be started.
        TimeoutError: it has not ended in that time, and was killed.

    """
    process = await asyncio.create_subprocess_exec(
        *words,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        pass_fds=pass_fds,
    )
    try:
        async with asyncio.timeout(timeout_s):
            out, error = await process.communicate(stdin)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, out, error
