r"""A sign-up that runs once per person and waits for the click in a mail.

Run it, in one shell, and sign up in another. The server's terminal shows the secret of the mail:

    holdfast dev examples/workflow.py:app
    curl localhost:8080/Signup/ada/run/send --json '"ada@example.org"'
    curl localhost:8080/Signup/ada/status --json null

Click, that is: send the secret, and read how it ended:

    curl localhost:8080/Signup/ada/click --json "\"$SECRET\""
    curl localhost:8080/restate/workflow/Signup/ada/attach
"""

import holdfast as hf

signup = hf.Workflow("Signup", workflow_retention=7 * 24 * 3600)


def send_mail(email: str, secret: str) -> None:
    print(f"To {email}: click with {secret}", flush=True)


@signup.main
async def run(ctx: hf.Context, email: str) -> str:
    secret = str(ctx.uuid())
    ctx.set("status", "waiting for the click")
    await ctx.run("send mail", send_mail, email, secret)
    clicked = await ctx.promise("clicked", str).value()
    ctx.set("status", "done")
    return f"{ctx.key} is in" if clicked == secret else f"{ctx.key} stays out"


@signup.handler
async def click(ctx: hf.Context, secret: str) -> None:
    await ctx.promise("clicked", str).resolve(secret)


@signup.handler
async def status(ctx: hf.Context) -> str | None:
    return await ctx.get("status", type=str)


app = hf.App(signup)
