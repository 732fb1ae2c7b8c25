// Reads a stream as `useChat` does, with the AI SDK's own transport and message reader. Prints each
// state of the message that differs from the one before, and what it is at the end, as JSON lines.
import { DefaultChatTransport, readUIMessageStream } from "ai";

const [mode, url, arg] = process.argv.slice(2);
const transport = new DefaultChatTransport({
  api: url,
  // The handler gets the last message alone.
  prepareSendMessagesRequest: ({ messages }) => ({
    body: messages[messages.length - 1].parts[0].text,
  }),
  prepareReconnectToStreamRequest: () => ({ api: url }),
});

const stream =
  mode === "send"
    ? await transport.sendMessages({
        trigger: "submit-message",
        chatId: "chat",
        messages: [{ id: "u1", role: "user", parts: [{ type: "text", text: arg }] }],
      })
    : await transport.reconnectToStream({ chatId: "chat" });

const errors = [];
let last = "";
let message;
for await (message of readUIMessageStream({ stream, onError: (error) => errors.push(`${error}`) })) {
  const state = JSON.stringify(message);
  if (state !== last) console.log(JSON.stringify({ state: message }));
  last = state;
}
console.log(JSON.stringify({ message, errors }));
