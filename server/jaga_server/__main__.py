"""`python -m jaga_server`."""

from jaga_server.cli import main

raise SystemExit(main())
