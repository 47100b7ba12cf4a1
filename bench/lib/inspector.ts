/** V8's inspector of the benchmark's Worker, over the port that Miniflare opens. Knows no domain of the protocol. */

/** Sends a command; resolves with its result. Rejects when the inspector refuses it. */
export type Inspector = (method: string, params?: object) => Promise<unknown>;

interface Listed {
  readonly id: string;
  readonly webSocketDebuggerUrl: string;
}

interface Answer {
  readonly id?: number;
  readonly result?: unknown;
  readonly error?: { readonly message: string };
}

/** Stays connected until workerd ends. */
export async function connectInspector(port: number): Promise<Inspector> {
  const listed = (await (await fetch(`http://127.0.0.1:${port}/json`)).json()) as Listed[];
  const worker = listed.find(({ id }) => id.includes("bench"));
  if (worker === undefined) throw new Error("the inspector lists no Worker of the benchmark");
  const socket = new WebSocket(worker.webSocketDebuggerUrl);
  await new Promise((resolve, reject) => {
    socket.addEventListener("open", resolve, { once: true });
    socket.addEventListener("error", () => reject(new Error("the inspector did not open")), { once: true });
  });
  const waiting = new Map<number, PromiseWithResolvers<unknown>>();
  socket.addEventListener("message", ({ data }) => {
    const { id = 0, result, error } = JSON.parse(String(data)) as Answer;
    const asked = waiting.get(id);
    waiting.delete(id);
    if (error) asked?.reject(new Error(error.message));
    else asked?.resolve(result);
  });
  let sent = 0;
  return (method, params = {}) => {
    sent += 1;
    const asked = Promise.withResolvers<unknown>();
    waiting.set(sent, asked);
    socket.send(JSON.stringify({ id: sent, method, params }));
    return asked.promise;
  };
}
