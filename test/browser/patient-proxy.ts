/**
 * A proxy that sees each request through, whether or not the browser still waits for the answer.
 *
 * A browser drops what is under way when it goes to another page, and `wrangler dev` may end when one of its connections
 * is dropped (https://github.com/cloudflare/workers-sdk/issues/15451). It never sees that from behind this.
 */
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import { createServer, request } from "node:http";
import type { AddressInfo } from "node:net";
import { buffer } from "node:stream/consumers";

export class PatientProxy {
  readonly origin: string;
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
    this.origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  /** @param port where the server behind it is, on this machine. */
  static async start(port: number): Promise<PatientProxy> {
    const server = createServer((incoming, outgoing) => {
      pass(port, incoming, outgoing).catch(() => outgoing.destroy());
    });
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(0, "127.0.0.1", resolve);
    });
    return new PatientProxy(server);
  }

  stop(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }
}

async function pass(port: number, incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
  const body = await buffer(incoming);
  const { method = "GET", url: path = "/", headers } = incoming;
  const answer = await new Promise<IncomingMessage>((resolve, reject) => {
    const onward = request({ host: "127.0.0.1", port, method, path, headers }, resolve);
    onward.once("error", reject);
    onward.end(body);
  });
  const content = await buffer(answer);
  const { "transfer-encoding": _, ...rest } = answer.headers;
  outgoing.writeHead(answer.statusCode ?? 502, rest);
  outgoing.end(content);
}
