"""`python -m jaga_agent`."""

from jaga_agent.cli import main

raise SystemExit(main())
