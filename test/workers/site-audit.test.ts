/** The example agent: what it reads in a page, what it says of links, and that it goes on where it was cut off. */
import { describe, expect, it } from "vitest";
import { siteAudit } from "../../examples/site-audit/agent.ts";
import { extractPage } from "../../examples/site-audit/extract.ts";
import type { Fetch } from "../../examples/site-audit/http.ts";
import { BODY_CAP_BYTES, fetchPage, probeLink, probeStart } from "../../examples/site-audit/http.ts";
import { judgeLinks, looksLikePage, planLinkChecks } from "../../examples/site-audit/links.ts";
import { toApproval, toMarkdown } from "../../examples/site-audit/report.ts";
import { summariser } from "../../examples/site-audit/summarise.ts";
import type { AuditedPage, PageFacts } from "../../examples/site-audit/types.ts";
import { parseSiteAuditInput } from "../../examples/site-audit/types.ts";
import { codeOf } from "../../src/contract/errors.ts";
import { runDurable } from "../../src/runner/run-durable.ts";
import { InMemoryDurableRunStore } from "../../src/stores/memory.ts";
import { SkippingClock } from "../../src/testing/skipping-clock.ts";

const ORIGIN = "https://site.test";

describe("reading a page", () => {
  it("finds title, description, headings, words and paragraphs, and leaves out what is no content", async () => {
    const facts = await extractPage(
      `<!doctype html><html><head><title> A &amp; B </title><meta name="description" content="caf&#233;">
       <style>not these words</style><script>nor("these")</script></head>
       <body><nav>menu</nav><h1 id="top-1">One <em>two</em></h1><ul><li>three</li><li>four</li></ul>
       <p>A paragraph without an end tag that is long enough to be kept
       <p>Another one that is long enough too, with a <b>bold</b> word</p></body></html>`,
      `${ORIGIN}/`,
    );
    expect(facts.title).toBe("A & B");
    expect(facts.description).toBe("café");
    expect(facts.headings).toEqual([{ level: 1, text: "One two" }]);
    expect(facts.paragraphs).toEqual([
      "A paragraph without an end tag that is long enough to be kept",
      "Another one that is long enough too, with a bold word",
    ]);
    expect(facts.words).toBe(2 + 2 + 13 + 11);
    expect(facts.anchors).toEqual(["top-1"]);
  });

  it("resolves links against the base, splits off fragments, and leaves out what is not http", async () => {
    const facts = await extractPage(
      `<base href="/docs/"><a href="a.html?x=1&amp;y=2#part">to <i>a</i></a><a href="#here">h</a>
       <a href="mailto:x@y.z">m</a><a href="javascript:void 0">j</a><a href="https://other.test/">o</a>
       <a href="http://[bad">b</a><a name="old">anchor</a>`,
      `${ORIGIN}/page`,
    );
    expect(facts.links).toEqual([
      { href: `${ORIGIN}/docs/a.html?x=1&y=2`, fragment: "part", text: "to a" },
      { href: `${ORIGIN}/docs/`, fragment: "here", text: "h" },
      { href: "https://other.test/", fragment: "", text: "o" },
    ]);
    expect(facts.malformedLinks).toEqual(["http://[bad"]);
    expect(facts.anchors).toEqual(["old"]);
  });

  it("says so when a page has more links than are read", async () => {
    const facts = await extractPage('<a href="/x">x</a>'.repeat(2_001), `${ORIGIN}/`);
    expect(facts.links).toHaveLength(2_000);
    expect(facts.notes).toEqual(["only the first 2000 links were read"]);
  });

  it("knows a page from a download by its address", () => {
    const pages = ["/", "/a", "/a.html", "/docs/a.md", "/v1.2/guide", "/.well-known"];
    expect(pages.filter((path) => !looksLikePage(ORIGIN + path))).toEqual([]);
    expect(["/a.pdf", "/a.tar.gz", "/src/worker.ts"].filter((path) => looksLikePage(ORIGIN + path))).toEqual(
      [],
    );
  });
});

describe("checking links", () => {
  const rules = { origin: ORIGIN, checkExternal: false, maxLinkChecks: 1 };
  const pages = [
    page("/", {
      links: ["/gone", "/b#here", "/b#nowhere", "/b#top", "/file.pdf", "/two.pdf", "https://other.test/"],
    }),
    page("/b", { anchors: ["here"] }),
    page("/gone", undefined, 404),
  ];

  it("asks only for links of the site that the crawl did not visit, up to the cap", () => {
    expect(planLinkChecks(pages, rules)).toEqual({ probes: [`${ORIGIN}/file.pdf`], leftOut: 1 });
  });

  it("asks for links to other sites when told to", () => {
    const { probes } = planLinkChecks(pages, { ...rules, checkExternal: true, maxLinkChecks: 9 });
    expect(probes).toContain("https://other.test/");
  });

  it("tells broken addresses and anchors from links that were not checked", () => {
    const report = judgeLinks(pages, [{ url: `${ORIGIN}/file.pdf`, status: 200 }], rules);
    expect(report).toMatchObject({ targets: 7, ok: 3 });
    expect(report.broken.map(({ target, reason }) => [target, reason])).toEqual([
      [`${ORIGIN}/gone`, "HTTP 404"],
      [`${ORIGIN}/b#nowhere`, 'no anchor "nowhere" in the page'],
    ]);
    expect(report.unchecked.map(({ target, reason }) => [target, reason])).toEqual([
      [`${ORIGIN}/two.pdf`, "over the cap on link checks"],
      ["https://other.test/", "external"],
    ]);
  });

  it("does not call a link broken because programs are turned away", () => {
    const report = judgeLinks(pages, [{ url: `${ORIGIN}/file.pdf`, status: 403 }], rules);
    expect(report.unchecked[0]).toMatchObject({ target: `${ORIGIN}/file.pdf`, verdict: "unchecked" });
  });

  it("does not call an anchor missing in a page that was cut", () => {
    const cut = [page("/", { links: ["/#far"] })].map((one) => ({ ...one, truncated: true }));
    expect(judgeLinks(cut, [], rules).unchecked).toHaveLength(1);
  });
});

describe("fetching", () => {
  const { signal } = new AbortController();

  it("keeps HTML up to the cap and says that it was cut", async () => {
    const fetch: Fetch = async () => html("x".repeat(BODY_CAP_BYTES + 10));
    const fetched = await fetchPage(ORIGIN, { fetch, signal });
    expect(fetched).toMatchObject({ status: 200, bytes: BODY_CAP_BYTES, truncated: true });
    expect(fetched.html).toHaveLength(BODY_CAP_BYTES);
  });

  it("keeps a body of exactly the cap whole", async () => {
    const fetched = await fetchPage(ORIGIN, { fetch: async () => html("x".repeat(BODY_CAP_BYTES)), signal });
    expect(fetched).toMatchObject({ bytes: BODY_CAP_BYTES, truncated: false });
  });

  it("gives the reason where there is no HTML and where there is no answer", async () => {
    const json = await fetchPage(ORIGIN, { fetch: async () => Response.json({}), signal });
    expect(json.reason).toBe("not HTML (application/json)");
    const none = await fetchPage(ORIGIN, { fetch: () => Promise.reject(new Error("refused")), signal });
    expect(none).toMatchObject({ status: 0, reason: "no answer: refused" });
  });

  it("rejects when it is called off, so that no page is recorded as missing", async () => {
    const called = new AbortController();
    const fetch: Fetch = (_url, init) => {
      called.abort(new Error("lease lost"));
      return Promise.reject(init?.signal?.reason as Error);
    };
    await expect(() => fetchPage(ORIGIN, { fetch, signal: called.signal })).rejects.toThrow("lease lost");
  });

  it("asks with GET where HEAD is not welcome", async () => {
    const fetch: Fetch = async (_url, init) =>
      new Response(null, { status: init?.method === "HEAD" ? 405 : 200 });
    expect(await probeLink(ORIGIN, { fetch, signal })).toEqual({ url: ORIGIN, status: 200 });
  });

  it("refuses to start on a page that is not there", async () => {
    const fetch: Fetch = async () => new Response("", { status: 404 });
    await expect(() => probeStart(ORIGIN, { fetch, signal })).rejects.toThrow(
      "not ready to be audited: HTTP 404",
    );
  });
});

describe("the summary", () => {
  const { signal } = new AbortController();
  const draft = {
    site: ORIGIN,
    pages: [page("/", {})],
    links: judgeLinks([], [], { origin: ORIGIN, checkExternal: false, maxLinkChecks: 0 }),
  };
  const model = { OPENAI_BASE_URL: "https://model.test/v1/", OPENAI_API_KEY: "secret" };

  it("is made locally, and says so, where no model is set", async () => {
    const summary = await summariser({ OPENAI_BASE_URL: "https://model.test" }, () =>
      Promise.reject(new Error("not asked")),
    )(draft, signal);
    expect(summary).toMatchObject({ local: true });
    expect(summary.by).toContain("no model was asked (no OPENAI_BASE_URL and OPENAI_API_KEY are set)");
  });

  it("comes from the model that is set, named with its host", async () => {
    const calls: [string, unknown][] = [];
    const fetch: Fetch = async (url, init) => {
      calls.push([url, JSON.parse(init?.body as string)]);
      expect(new Headers(init?.headers).get("authorization")).toBe("Bearer secret");
      return Response.json({ choices: [{ message: { content: " Fine. " } }] });
    };
    expect(await summariser(model, fetch)(draft, signal)).toEqual({
      text: "Fine.",
      by: "gpt-4o-mini at model.test",
      local: false,
    });
    expect(calls).toEqual([
      ["https://model.test/v1/chat/completions", expect.objectContaining({ model: "gpt-4o-mini" })],
    ]);
  });

  it("is not asked for again where the model refuses; the key is not told", async () => {
    const refusing = summariser(model, async () => new Response("no", { status: 401 }));
    const error = await refusing(draft, signal).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ message: "gpt-4o-mini did not answer: HTTP 401", retryable: false });
    expect(JSON.stringify(error)).not.toContain("secret");
  });
});

describe("the input", () => {
  it("gets its defaults, so that leaving one out is the same run", () => {
    expect(parseSiteAuditInput({ startUrl: `${ORIGIN}/#x` })).toEqual(
      parseSiteAuditInput({ startUrl: ORIGIN, maxPages: 12, approvalKey: "approve", checkExternal: false }),
    );
  });

  it.each([
    ["not an object", 1, "input must be"],
    ["no start", {}, "input.startUrl must be a string"],
    ["another scheme", { startUrl: "file:///etc/passwd" }, "input.startUrl must be an http or https address"],
    [
      "too many pages",
      { startUrl: ORIGIN, maxPages: 201 },
      "input.maxPages must be a whole number from 1 to 200",
    ],
    ["an unknown field", { startUrl: ORIGIN, pages: 3 }, "input.pages is not known"],
    ["a text for a flag", { startUrl: ORIGIN, checkExternal: "no" }, "input.checkExternal must be a boolean"],
  ])("is refused with the field's name: %s", (_name, input, message) => {
    expect(() => parseSiteAuditInput(input)).toThrow(message);
  });
});

describe("the agent", () => {
  const input = parseSiteAuditInput({ startUrl: `${ORIGIN}/`, publishUrl: `${ORIGIN}/report` });
  const manifest = { projectId: "site-audit", task: { id: "t", intent: "audit" }, input: { ...input } };

  it("crawls breadth first, checks links, waits for approval and publishes", async () => {
    const site = new Site();
    const store = new InMemoryDurableRunStore();
    await store.emitEvent({ runId: "r", key: "approve", payload: { approvedBy: "Ada" } });
    const { result, steps } = await runDurable({
      runId: "r",
      manifest,
      store,
      taskFn: siteAudit(input, site.tools()),
    });
    expect(result.pages.map(({ url, status }) => [new URL(url).pathname, status])).toEqual([
      ["/", 200],
      ["/a", 200],
      ["/b", 200],
      ["/gone", 404],
    ]);
    expect(result.links.broken.map(({ target }) => target)).toEqual([`${ORIGIN}/gone`]);
    expect(result).toMatchObject({ approved: true, approvedBy: "Ada", publishedTo: `${ORIGIN}/report` });
    expect(site.published).toEqual([expect.stringContaining("Approved by Ada")]);
    expect(steps.map(({ kind, intent }) => `${kind} ${intent}`)).toEqual([
      "readiness probe /",
      "tool fetch /",
      "logic read /",
      "tool fetch /a",
      "logic read /a",
      "tool fetch /b",
      "logic read /b",
      "tool fetch /gone",
      "logic plan the link checks",
      "tool ask for links 1 to 1 of 1",
      "logic check every link",
      "llm summarise the audit",
      "event event:approve",
      "tool publish the report",
    ]);
  });

  it("publishes nothing that is not approved", async () => {
    const site = new Site();
    const store = new InMemoryDurableRunStore();
    await store.emitEvent({
      runId: "r",
      key: "approve",
      payload: { approved: false, approvedBy: "Bob", note: "no" },
    });
    const { result } = await runDurable({
      runId: "r",
      manifest,
      store,
      taskFn: siteAudit(input, site.tools()),
    });
    expect(result).toMatchObject({ approved: false, approvedBy: "Bob", approvalNote: "no" });
    expect(site.published).toEqual([]);
  });

  it("asks a model again that is busy, and goes on without one that fails three times", async () => {
    for (const [busy, by] of [
      [2, "gpt-4o-mini at model.test"],
      [3, "no model was asked (gpt-4o-mini did not answer: HTTP 503)"],
    ] as const) {
      let asked = 0;
      const summarise = summariser(
        { OPENAI_BASE_URL: "https://model.test/v1", OPENAI_API_KEY: "k" },
        async () =>
          (asked += 1) <= busy
            ? new Response("busy", { status: 503 })
            : Response.json({ choices: [{ message: { content: "Fine." } }] }),
      );
      const clock = new SkippingClock();
      const store = new InMemoryDurableRunStore({ clock });
      await store.emitEvent({ runId: "r", key: "approve", payload: "yes" });
      const taskFn = siteAudit(input, { ...new Site().tools(), summarise });
      const { result } = await runDurable({ runId: "r", manifest, store, clock, taskFn });
      expect(asked).toBe(3);
      expect(result.summary.by).toContain(by);
    }
  });

  it("goes on where a dead worker was cut off, and fetches no recorded page again", async () => {
    const site = new Site();
    const store = new InMemoryDurableRunStore();
    const run = { runId: "r", manifest, store, leaseMs: 60_000 };
    const stuck = site.holdAt("/b");
    const first = runDurable({ ...run, workerId: "w1", taskFn: siteAudit(input, site.tools()) }).catch(
      (error: unknown) => error,
    );
    await stuck.reached;
    store._expireLease("r");
    await store.emitEvent({ runId: "r", key: "approve", payload: null });
    const second = await runDurable({ ...run, workerId: "w2", taskFn: siteAudit(input, site.tools()) });
    stuck.release();
    expect(codeOf(await first)).toBe("lease_lost");
    expect(second.record).toMatchObject({ status: "completed", takeovers: 1, fence: 2 });
    expect(second.result.approvedBy).toBe("somebody who gave no name");
    expect(site.gets).toEqual({ "/": 1, "/a": 1, "/b": 2, "/gone": 1 });
    expect(site.published).toHaveLength(1);
  });

  it("reads pages of its own site only, also when one leads elsewhere", async () => {
    const fetch: Fetch = async (url) => {
      const response = html(
        url.endsWith("/out")
          ? '<a href="/never">n</a>'
          : '<a href="/out">o</a><a href="https://other.test/p">p</a>',
      );
      Object.defineProperty(response, "url", {
        value: url.endsWith("/out") ? "https://other.test/landed" : url,
      });
      return response;
    };
    const store = new InMemoryDurableRunStore();
    await store.emitEvent({ runId: "r", key: "approve", payload: "yes" });
    const alone = parseSiteAuditInput({ startUrl: `${ORIGIN}/` });
    const tools = { fetch, summarise: summariser({}, fetch) };
    const { result } = await runDurable({ runId: "r", manifest, store, taskFn: siteAudit(alone, tools) });
    expect(result.pages.map(({ url }) => new URL(url).pathname)).toEqual(["/", "/out"]);
    expect(result.pages[1]?.notes).toContain("leads to another site, so it was not read");
  });
});

describe("the published report", () => {
  it("does not let a page's own words become markup", () => {
    const markdown = toMarkdown({
      site: ORIGIN,
      pages: [
        {
          url: `${ORIGIN}/`,
          status: 200,
          title: "a | <b>\n[x](y)",
          words: 1,
          headings: 0,
          links: 0,
          notes: [],
        },
      ],
      pagesLeftOut: 0,
      links: { targets: 0, ok: 0, broken: [], unchecked: [] },
      summary: { text: "s", by: "nobody", local: true },
      ...toApproval({ approvedBy: "" }),
    });
    expect(markdown).toContain(String.raw`a \| \<b\> \[x\](y)`);
  });
});

/** A site of three pages and a dead link. */
class Site {
  readonly gets: Record<string, number> = {};
  readonly published: string[] = [];
  readonly #pages: Record<string, string> = {
    "/": '<a href="/a">a</a> <a href="/b#x">b</a>',
    "/a": '<a href="/gone">g</a> <a href="/">home</a>',
    "/b": '<h1 id="x">B</h1> <a href="/file.zip">f</a>',
  };
  #hold: { path: string; onReach: () => void; until: Promise<void> } | undefined;

  tools(): Parameters<typeof siteAudit>[1] {
    const fetch: Fetch = (url, init) => this.#answer(url, init);
    return { fetch, summarise: summariser({}, fetch) };
  }

  /** The next GET of `path` is held until released. */
  holdAt(path: string): { reached: Promise<void>; release: () => void } {
    const reached = Promise.withResolvers<void>();
    const until = Promise.withResolvers<void>();
    this.#hold = { path, onReach: reached.resolve, until: until.promise };
    return { reached: reached.promise, release: until.resolve };
  }

  async #answer(url: string, init: RequestInit | undefined): Promise<Response> {
    const { pathname } = new URL(url);
    if (init?.method === "PUT") {
      this.published.push(init.body as string);
      return new Response(null, { status: 201 });
    }
    if (init?.method === "HEAD") return new Response(null);
    this.gets[pathname] = (this.gets[pathname] ?? 0) + 1;
    const hold = this.#hold;
    if (hold?.path === pathname) {
      this.#hold = undefined;
      hold.onReach();
      await hold.until;
    }
    const body = this.#pages[pathname];
    return body === undefined ? html("none", 404) : html(body);
  }
}

function html(body: string, status = 200): Response {
  return new Response(body, { status, headers: { "content-type": "text/html; charset=utf-8" } });
}

function page(
  path: string,
  facts: { links?: string[]; anchors?: string[] } | undefined,
  status = 200,
): AuditedPage {
  const url = ORIGIN + path;
  const read: PageFacts | null = facts
    ? {
        title: "",
        description: "",
        words: 0,
        headings: [],
        malformedLinks: [],
        paragraphs: [],
        notes: [],
        anchors: facts.anchors ?? [],
        links: (facts.links ?? []).map((href) => {
          const link = new URL(href, url);
          const fragment = link.hash.slice(1);
          link.hash = "";
          return { href: link.href, fragment, text: "" };
        }),
      }
    : null;
  return { url, finalUrl: url, status, contentType: "text/html", bytes: 1, truncated: false, facts: read };
}
