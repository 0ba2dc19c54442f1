"""The page's files, built into `static/`. Serves bytes; knows nothing of the API."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, HTMLResponse, Response

if TYPE_CHECKING:
    from starlette.requests import Request

FOR_EVER = "public, max-age=31536000, immutable"
"""Vite puts a hash of the content into the names below assets/."""
ASK_AGAIN = "no-cache"

NOT_BUILT = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Jaga</title>
<h1>The page is not built</h1>
<p>Run <code>make setup</code> in the repository and start the collector again.
The API works: <a href="/api/1/summary">/api/1/summary</a>.</p></html>
"""


def folder() -> Path:
    """Return where the built page lies."""
    return Path(str(resources.files("jaga_server.web") / "static"))


class Page:
    """The single page and its files."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()

    async def index(self, _request: Request) -> Response:
        """Answer `/` and the page's own addresses, e.g. /site/tps-…-901."""
        index = self._root / "index.html"
        if not index.is_file():
            return HTMLResponse(NOT_BUILT, 503, {"cache-control": ASK_AGAIN})
        return FileResponse(index, headers={"cache-control": ASK_AGAIN})

    async def file(self, request: Request) -> Response:
        """Answer a file of the build, or 404."""
        path = (self._root / request.path_params["path"]).resolve()
        if not path.is_relative_to(self._root) or not path.is_file():
            raise HTTPException(404, f"{request.url.path} is not here")
        hashed = path.is_relative_to(self._root / "assets")
        return FileResponse(
            path, headers={"cache-control": FOR_EVER if hashed else ASK_AGAIN}
        )
