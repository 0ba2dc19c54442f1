"""`python -m jaga_deploy`."""

from jaga_deploy.cli import main

raise SystemExit(main())
