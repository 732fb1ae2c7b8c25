"""The room of the SDK: what runs in the process that hosts the handlers.

machine    journal keys, replay, what is awaited: values in, messages out, no event loop
branch     where in the tree of tasks the running code is
loop       hooks on the running event loop: branches for tasks, quiescence, durable timers
future     what durable calls return
step       bodies of `ctx.run`; `unknown`, `guard` and `step_try` for those that must not run twice
attempt    one attempt: the machine driven by the loop
context    what handlers use
service    definitions of services and handlers; `app` gathers them
serde      values to bytes and back
client     invocations from outside
"""
