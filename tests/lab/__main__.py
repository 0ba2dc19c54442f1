"""The lab by hand: `python3 -m lab up` (until Ctrl-C) and `python3 -m lab sweep`."""

from __future__ import annotations

import signal
import sys

from lab.errors import LabError
from lab.site import Lab


def main(argv: list[str]) -> int:
    try:
        if argv == ["sweep"]:
            swept = Lab.sweep()
            print("\n".join(f"removed lab {tag}" for tag in swept) or "nothing left")
            return 0
        if argv == ["up"]:
            with Lab.create() as lab:
                for role, space in lab.namespaces.items():
                    print(f"{role:9} ip netns exec {space.name} …")
                print("Ctrl-C takes it down", flush=True)
                try:
                    signal.pause()
                except KeyboardInterrupt:
                    print()
            return 0
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
