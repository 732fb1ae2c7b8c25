"""Serves scenarios from the command line, until it is interrupted."""

from __future__ import annotations

import argparse
import importlib
import sys
import threading

from .server import ScriptedModel


def main() -> None:
    """Serve the mapping of scenarios that `MODULE:NAME` names."""
    parser = argparse.ArgumentParser(prog="python -m holdfast.testing.scripted_model")
    parser.add_argument("scenarios", metavar="MODULE:NAME", help="a mapping of model names")
    parser.add_argument("--port", type=int, default=0, help="on loopback (default: a free one)")
    arguments = parser.parse_args()
    module, _, name = arguments.scenarios.partition(":")
    scenarios = getattr(importlib.import_module(module), name or "SCENARIOS")
    with ScriptedModel(scenarios, port=arguments.port) as model:
        sys.stdout.write(f"{model.url}\n")
        sys.stdout.flush()
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    main()
