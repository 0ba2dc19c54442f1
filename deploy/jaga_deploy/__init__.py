"""The operator's tool: keys and certificates, and the broker that goes with them."""

from jaga_agent import __version__ as __version__
