// Every primitive of Restate's TypeScript SDK, as services.
import { appendFileSync } from "node:fs";

import {
  handlers,
  object,
  RestatePromise,
  serde,
  service,
  TerminalError,
  TimeoutError,
  workflow,
} from "@restatedev/restate-sdk";

const counts = new Map();
const hour = { hours: 1 };

// Happen, visibly for the test: returns how often it has in this process.
function note(text) {
  counts.set(text, (counts.get(text) ?? 0) + 1);
  appendFileSync(process.env.LOG, `${text}\n`);
  return counts.get(text);
}

function noted(text, value) {
  note(text);
  return value;
}

const failure = (error) => `${error.code} ${error.message}`;

const steps = service({
  name: "Steps",
  metadata: { team: "compat" },
  handlers: {
    greet: async (ctx, name) => `Hello ${name}`,

    headers: async (ctx) => Object.fromEntries(ctx.request().headers),

    bytes: handlers.handler(
      { input: serde.binary, output: serde.binary },
      async (ctx, bytes) => bytes,
    ),

    count: async (ctx, { name, number }) => {
      note(`${name} attempt`);
      const done = [];
      for (let n = 0; n < number; n++) {
        done.push(await ctx.run(`step ${n}`, () => noted(`${name} ${n}`, n * n)));
      }
      return done;
    },

    together: async (ctx, number) => {
      const numbers = [...Array(number).keys()];
      return RestatePromise.all([
        ...numbers.map((n) => ctx.run(`step ${n}`, async () => n)),
        ...numbers.map((n) => ctx.serviceClient(steps).square(n)),
      ]);
    },

    square: async (ctx, number) => number * number,

    nap: async (ctx, naps) => {
      await RestatePromise.all(naps.map((ms) => ctx.sleep(ms)));
      return naps;
    },

    combine: async (ctx, name) => {
      const quick = () => ctx.serviceClient(steps).square(3);
      const bad = () => ctx.serviceClient(steps).reject(418);
      const never = () => ctx.sleep(hour);
      const settled = await RestatePromise.allSettled([quick(), bad()]);
      return {
        race: await RestatePromise.race([never(), quick()]),
        any: await RestatePromise.any([bad(), never(), quick()]),
        settled: settled.map((each) => each.value ?? failure(each.reason)),
        all: await RestatePromise.all([never(), bad()]).catch(failure),
        timeout: await ctx
          .awakeable()
          .promise.orTimeout(10)
          .catch((error) => error instanceof TimeoutError),
        map: await quick().map((value) => value + 1),
        nested: await RestatePromise.race([RestatePromise.all([never(), quick()]), quick()]),
      };
    },

    failTwice: handlers.handler(
      { retryPolicy: { initialInterval: 10 } },
      async (ctx, name) => {
        const count = note(name);
        if (count < 3) throw new Error(`attempt ${count}`);
        return count;
      },
    ),

    flakyStep: async (ctx, name) => {
      const fail = () => {
        throw new Error(`${name} ${note(name)}`);
      };
      const policy = { maxRetryAttempts: 3, initialRetryInterval: 1 };
      return ctx.run("flaky", fail, policy).catch((error) => `gave up: ${error.message}`);
    },

    reject: async (ctx, code) => {
      throw new TerminalError("not today", { errorCode: code });
    },

    call: async (ctx, code) => ctx.serviceClient(steps).reject(code).catch(failure),

    sendAndAttach: async (ctx, number) => {
      const send = (parameter, delay) =>
        ctx.genericSend({
          service: "Steps",
          method: "square",
          parameter,
          inputSerde: serde.json,
          delay,
        });
      const [later, now] = [send(number, 10), send(number + 1)];
      return [
        await ctx.attach(await later.invocationId, serde.json),
        await ctx.attach(await now.invocationId, serde.json),
      ];
    },

    // The same numbers in each attempt, and the same time.
    sameAgain: async (ctx, name) => {
      const seen = [ctx.rand.random(), ctx.rand.uuidv4(), await ctx.date.now()];
      note(`${name} ${JSON.stringify(seen)}`);
      await ctx.sleep(1);
      if (note(`${name} attempt`) < 3) throw new Error("once more");
      return seen;
    },

    waitForAPerson: async (ctx, name) => {
      const { id, promise } = ctx.awakeable();
      await ctx.run("ask", () => noted(`${name} ${id}`));
      return promise.then((said) => `they said ${said}`).catch(failure);
    },

    answer: async (ctx, id) => ctx.resolveAwakeable(id, "yes"),

    refuse: async (ctx, id) => ctx.rejectAwakeable(id, "no"),

    listen: async (ctx, name) => {
      await ctx.run("begin", () => noted(`${name} ${ctx.request().id}`));
      return [await ctx.signal("word"), await ctx.signal("word")];
    },

    tell: async (ctx, [id, ...words]) => {
      for (const word of words) ctx.invocation(id).signal("word").resolve(word);
    },

    compensate: async (ctx, name) => {
      try {
        await ctx.serviceClient(steps).sleepLong(name);
      } catch (error) {
        await ctx.run("undo", () => noted(`${name} undone`));
        return `undone after ${error.code}`;
      }
    },

    sleepLong: async (ctx, name) => {
      try {
        await ctx.run("begin", () => noted(`${name} child began`));
        await ctx.sleep(hour);
      } catch (error) {
        if (error instanceof TerminalError) note(`${name} child cancelled`);
        throw error;
      }
    },

    cancelChild: async (ctx, name) => {
      const child = ctx.serviceClient(steps).sleepLong(name);
      ctx.cancel(await child.invocationId);
      return child.catch((error) => error.code);
    },

    secret: async (ctx, name) => ctx.serviceClient(hidden).tell(name),

    // To be killed in the middle.
    half: async (ctx, number) => {
      const done = [];
      for (let n = 0; n < number; n++) {
        const text = `${ctx.request().id} half ${n}`;
        done.push(await ctx.run(`half ${n}`, () => noted(text, text)));
        await ctx.sleep(20);
      }
      return done;
    },
  },
});

const hidden = service({
  name: "Hidden",
  handlers: { tell: async (ctx, name) => `secret ${name}` },
  options: { ingressPrivate: true },
});

const counter = object({
  name: "Counter",
  handlers: {
    add: async (ctx, number) => {
      const value = ((await ctx.get("value")) ?? 0) + number;
      ctx.set("value", value);
      return value;
    },
    get: handlers.object.shared(async (ctx) => (await ctx.get("value")) ?? 0),
    empty: async (ctx) => {
      ctx.set("other", "");
      const before = await ctx.stateKeys();
      ctx.clearAll();
      return [before, await ctx.stateKeys()];
    },
    forget: async (ctx) => ctx.clear("value"),
    keys: handlers.object.shared(async (ctx) => ctx.stateKeys()),
    addLater: async (ctx, number) => {
      const handle = ctx.genericSend({
        service: "Counter",
        method: "add",
        key: ctx.key,
        parameter: number,
        inputSerde: serde.json,
        delay: 10,
      });
      return handle.invocationId;
    },
  },
});

const lazy = object({
  name: "Lazy",
  handlers: {
    bump: async (ctx) => {
      const absent = await ctx.get("absent");
      const value = ((await ctx.get("value")) ?? 0) + 1;
      ctx.set("value", value);
      return [absent, value, await ctx.stateKeys()];
    },
  },
  options: { enableLazyState: true },
});

const signup = workflow({
  name: "Signup",
  handlers: {
    run: async (ctx, name) => {
      ctx.set("name", name);
      const clicked = await ctx.promise("clicked");
      return `${name} ${clicked}`;
    },
    click: async (ctx, secret) => {
      const [name, before] = [await ctx.get("name"), await ctx.promise("clicked").peek()];
      if (name !== null) await ctx.promise("clicked").resolve(secret);
      return [name, before ?? null];
    },
    clickTwice: async (ctx, secret) =>
      ctx
        .promise("clicked")
        .resolve(secret)
        .catch((error) => error.code),
  },
});

export const services = [steps, hidden, counter, lazy, signup];
