"""A server with its HTTP ingress and the handlers on one event loop: no carrier in between.

python -m bench.services.holdfast_inprocess --store sqlite:FILE --ingress A:PORT --admin A:PORT
"""

from __future__ import annotations

import argparse
import asyncio
import signal

from bench.load import runner
from bench.services.holdfast_app import app
from holdfast.server.app import Server
from holdfast.server.config import ServerConfig
from holdfast.transport.inprocess import InProcessPort


async def run(args: argparse.Namespace) -> None:
    """Serve until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    config = ServerConfig(store=args.store, ingress=args.ingress, admin=args.admin)
    async with Server(config) as server:
        await server.host.attach_worker(InProcessPort(app))
        await server.serve_until(stop)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", required=True, help="sqlite:FILE")
    parser.add_argument("--ingress", required=True, help="HOST:PORT")
    parser.add_argument("--admin", required=True, help="HOST:PORT")
    runner()(run(parser.parse_args()))


if __name__ == "__main__":
    main()
