"""One generated hour of each model in a file, and the way there and back.

The files are what tests read, so that no change of a generator moves their ground.
To write them anew after a model was changed: PYTHONPATH=tests python -m traces.recorded
"""

from __future__ import annotations

import json
from pathlib import Path

from traces.behaviour import Behaviour, Burst, Gap, behaviour
from traces.models import MODELS

SEED = 1
PLACE = Path(__file__).parent / "recorded"


def recorded(name: str) -> Behaviour:
    """Return the recorded hour of a model; raises KeyError for a name unknown."""
    kept = json.loads((PLACE / f"{name}.json").read_text())
    return Behaviour(
        MODELS[name],
        kept["hours"],
        tuple(Gap(at, length, held) for at, length, held in kept["gaps"]),
        tuple(Burst(at, length, loss) for at, length, loss in kept["bursts"]),
        tuple((at, more, loss) for at, more, loss in kept["steps"]),
    )


def as_json(what: Behaviour) -> str:
    """Return the compact form: seconds since the start, one list a line."""
    lists = {
        "gaps": [[g.at_s, g.length_s, g.held] for g in what.gaps],
        "bursts": [[b.at_s, b.length_s, b.loss_ratio] for b in what.bursts],
        "steps": [list(step) for step in what.steps],
    }
    head = {"model": what.model.name, "seed": SEED, "hours": what.hours}
    lines = [f'"{key}": {json.dumps(value)}' for key, value in (head | lists).items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


if __name__ == "__main__":
    for model in MODELS.values():
        (PLACE / f"{model.name}.json").write_text(
            as_json(behaviour(model, SEED, hours=1))
        )
