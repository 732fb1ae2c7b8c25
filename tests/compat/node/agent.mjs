// Agents of the Vercel AI SDK, with Restate's middleware.
import { appendFileSync } from "node:fs";

import { createOpenAI } from "@ai-sdk/openai";
import { object, service } from "@restatedev/restate-sdk";
import { durableCalls, superJson } from "@restatedev/vercel-ai-middleware";
import { generateText, isStepCount, tool, wrapLanguageModel } from "ai";
import { z } from "zod";

const openai = createOpenAI({ baseURL: process.env.MODEL_URL, apiKey: "any" });

function note(text) {
  appendFileSync(process.env.LOG, `${text}\n`);
  return text;
}

// `api` is chat or responses: both speak to the same models.
function durable(ctx, api, name) {
  return wrapLanguageModel({
    model: openai[api](name),
    middleware: durableCalls(ctx, { maxRetryAttempts: 3 }),
  });
}

const agent = service({
  name: "Agent",
  handlers: {
    refund: async (ctx, { api, prompt }) => {
      const lookUp = tool({
        description: "Look up one order.",
        inputSchema: z.object({ order: z.string() }),
        execute: ({ order }) => ctx.run(`look up ${order}`, () => note(`looked up ${order}`)),
      });
      const askPerson = tool({
        description: "Ask a person to approve a refund.",
        inputSchema: z.object({ amount: z.number() }),
        execute: async ({ amount }) => {
          const { id, promise } = ctx.awakeable();
          await ctx.run("ask", () => note(`asked ${amount} ${id}`));
          return promise;
        },
      });
      const { text, steps } = await generateText({
        model: durable(ctx, api, "refund"),
        prompt,
        tools: { lookUp, askPerson },
        stopWhen: isStepCount(10),
      });
      return { text, steps: steps.length };
    },
  },
});

const chat = object({
  name: "Chat",
  handlers: {
    say: async (ctx, { api, text }) => {
      const before = (await ctx.get("messages", superJson)) ?? [];
      const messages = [...before, { role: "user", content: text }];
      const answer = await generateText({ model: durable(ctx, api, "chat"), messages });
      ctx.set("messages", [...messages, ...answer.response.messages], superJson);
      return [answer.text, messages.length];
    },
  },
});

export const services = [agent, chat];
