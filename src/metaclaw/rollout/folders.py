"""Folders for work of which nothing remains.

Owns their making and their end; refuses to know what is done in them. Invariant: a folder is new, and gone afterwards,
however that went.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path


@asynccontextmanager
async def passing_folder(prefix: str) -> AsyncGenerator[Path]:
    """A folder whose name begins with ``prefix``."""
    folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix=prefix))
    try:
        yield folder
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
