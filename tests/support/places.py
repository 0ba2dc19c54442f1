"""Where things are: the repository, and what lies beside it."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def shared_data() -> Path:
    """Return the folder with the site list and the outlines of Kutai Timur."""
    place = os.environ.get("JAGA_SHARED_DATA")
    folder = Path(place).resolve() if place else ROOT.parent / "shared" / "data"
    assert (folder / "kutim-sites.csv").is_file(), (
        f"no kutim-sites.csv in {folder}; set JAGA_SHARED_DATA to the folder that has it"
    )
    return folder
