/** An agent to be tested: drafts an offer, has it approved, sleeps on it for a day, and sends it. */
import type { DurableContext } from "../../src/index.ts";

export const DAY_MS = 86_400_000;

export function offer(customer: string): (ctx: DurableContext) => Promise<"sent" | "dropped"> {
  return async (ctx) => {
    const { text, price } = await ctx.all({
      text: (own) =>
        own.step("draft", () => post<string>("https://llm.example/draft", { customer }), {
          kind: "llm",
          retries: { limit: 3, delayMs: 60_000 },
        }),
      price: (own) =>
        own.step("price", () => post<number>("https://shop.example/price", { customer }), { kind: "tool" }),
    });
    const approved = await ctx.awaitEvent<boolean>("approval", { timeoutMs: DAY_MS }).catch((error) => {
      if (error.code === "await_event_timeout") return false;
      throw error;
    });
    if (!approved) return "dropped";
    await ctx.sleep(DAY_MS);
    await ctx.step(
      "send",
      ({ idempotencyKey }) => post("https://mail.example/send", { text, price, idempotencyKey }),
      { kind: "tool" },
    );
    return "sent";
  };
}

async function post<T>(url: string, body: object): Promise<T> {
  const response = await fetch(url, { method: "POST", body: JSON.stringify(body) });
  if (!response.ok) throw new Error(`${url} answers ${response.status}`);
  return (await response.json()) as T;
}
