// Serves `services` of the module that is named, and prints the port when it listens.
//
//   PORT           0 takes a free one
//   HTTP           2, without TLS, or 1.1
//   BIDIRECTIONAL  false: request first, then response, also over HTTP/2
//   VERSION_MAX    highest version of the protocol that the manifest announces
//   IDENTITY_KEY   public key of the only server that is served
import * as http from "node:http";
import * as http2 from "node:http2";

import { createEndpointHandler } from "@restatedev/restate-sdk";

const { PORT = "0", HTTP = "2", BIDIRECTIONAL, VERSION_MAX, IDENTITY_KEY } = process.env;
const { services } = await import(process.argv[2]);

const handle = createEndpointHandler({
  services,
  identityKeys: IDENTITY_KEY === undefined ? undefined : [IDENTITY_KEY],
  bidirectional: BIDIRECTIONAL === undefined ? undefined : BIDIRECTIONAL === "true",
});

function serve(request, response) {
  if (VERSION_MAX !== undefined && request.url.endsWith("/discover")) {
    announceLess(response);
  }
  handle(request, response);
}

function announceLess(response) {
  const chunks = [];
  const end = response.end.bind(response);
  response.write = (chunk, done) => {
    chunks.push(Buffer.from(chunk));
    done();
  };
  response.end = (done) => {
    const manifest = JSON.parse(Buffer.concat(chunks));
    // The end is itself a write, in HTTP/2.
    delete response.write;
    end(JSON.stringify({ ...manifest, maxProtocolVersion: Number(VERSION_MAX) }), done);
  };
}

const server = HTTP === "2" ? http2.createServer(serve) : http.createServer(serve);
server.listen(Number(PORT), "127.0.0.1", () => console.log(server.address().port));
