"""The shell around the engine: loops, leases, timers, attempts. `app` wires everything."""
