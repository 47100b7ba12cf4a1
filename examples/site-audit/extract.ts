/**
 * Reads a page: its title, headings, words, links and anchors.
 *
 * Relies on HTMLRewriter, so it runs in Workers. Gives the same facts for the same HTML. Nothing here fetches.
 */
import { decodeEntities, squeeze } from "./text.ts";
import type { PageFacts } from "./types.ts";

const MAX_LINKS = 2_000;
const MAX_HEADINGS = 200;
const MAX_PARAGRAPHS = 5;

/** Text in these is no content. */
const SILENT = "script, style, template, noscript";
/** Text on both sides of these does not run together. */
const BLOCKS =
  "p, div, section, article, main, aside, header, footer, nav, ul, ol, li, dl, dt, dd, table, tr, td, th, pre, blockquote, br, hr, figure, figcaption, h1, h2, h3, h4, h5, h6";

/** `url` is where the page was found, redirects followed: links are resolved against it, or against its `<base>`. */
export async function extractPage(html: string, url: string): Promise<PageFacts> {
  const reader = new PageReader(url);
  try {
    await reader.rewriter().transform(new Response(html)).arrayBuffer();
  } catch (error) {
    reader.note(`read only in part: ${error instanceof Error ? error.message : String(error)}`);
  }
  return reader.facts();
}

/** Text that is being gathered until its element ends. */
interface Gathering {
  raw: string;
  done: (text: string) => void;
}

class PageReader {
  readonly #facts: PageFacts = {
    title: "",
    description: "",
    words: 0,
    headings: [],
    links: [],
    malformedLinks: [],
    anchors: [],
    paragraphs: [],
    notes: [],
  };
  readonly #anchors = new Set<string>();
  readonly #gathering = new Set<Gathering>();
  #base: string;
  #content = "";
  #silent = 0;
  #inNav = 0;
  #paragraph: Gathering | undefined;
  /** A title is not part of the page's words. */
  #inTitle: Gathering | undefined;

  constructor(url: string) {
    this.#base = url;
  }

  note(text: string): void {
    this.#facts.notes.push(text);
  }

  rewriter(): HTMLRewriter {
    return new HTMLRewriter()
      .on(BLOCKS, { element: () => this.#append(" ") })
      .on("nav", { element: (element) => this.#count(element, (by) => (this.#inNav += by)) })
      .on("title", { element: (element) => this.#title(element) })
      .on(SILENT, { element: (element) => this.#count(element, (by) => (this.#silent += by)) })
      .on("base[href]", { element: (element) => this.#rebase(element) })
      .on('meta[name="description"]', {
        element: (element) => void (this.#facts.description ||= attribute(element, "content")),
      })
      .on("[id], a[name]", { element: (element) => this.#anchor(element) })
      .on("a[href], area[href]", { element: (element) => this.#link(element) })
      .on("h1, h2, h3, h4, h5, h6", { element: (element) => this.#heading(element) })
      .on("p", { element: (element) => this.#openParagraph(element) })
      .onDocument({ text: (chunk) => this.#text(chunk.text) });
  }

  facts(): PageFacts {
    for (const gathering of this.#gathering) this.#finish(gathering);
    this.#facts.words = countWords(decodeEntities(this.#content));
    this.#facts.anchors = [...this.#anchors];
    return this.#facts;
  }

  #text(text: string): void {
    if (this.#silent > 0) return;
    if (this.#inTitle) this.#inTitle.raw += text;
    else this.#append(text);
  }

  #append(text: string): void {
    if (this.#inNav === 0) this.#content += text;
    for (const gathering of this.#gathering) gathering.raw += text;
  }

  #gather(element: Element, done: (text: string) => void): Gathering {
    const gathering: Gathering = { raw: "", done };
    this.#gathering.add(gathering);
    onEnd(element, () => this.#finish(gathering));
    return gathering;
  }

  #finish(gathering: Gathering): void {
    if (this.#gathering.delete(gathering)) gathering.done(squeeze(decodeEntities(gathering.raw)));
  }

  #title(element: Element): void {
    this.#inTitle = this.#gather(element, (text) => {
      this.#inTitle = undefined;
      this.#facts.title ||= text.slice(0, 300).toWellFormed();
    });
  }

  #count(element: Element, add: (by: number) => void): void {
    add(1);
    onEnd(element, () => add(-1));
  }

  #rebase(element: Element): void {
    const href = attribute(element, "href");
    if (URL.canParse(href, this.#base)) this.#base = new URL(href, this.#base).href;
  }

  #anchor(element: Element): void {
    for (const name of ["id", "name"]) {
      const value = attribute(element, name);
      if (value !== "") this.#anchors.add(value);
    }
  }

  #link(element: Element): void {
    const { links, malformedLinks } = this.#facts;
    const href = attribute(element, "href").trim();
    if (!URL.canParse(href, this.#base)) {
      if (malformedLinks.length < MAX_LINKS) malformedLinks.push(href.slice(0, 200));
      return;
    }
    const url = new URL(href, this.#base);
    if (url.protocol !== "http:" && url.protocol !== "https:") return;
    if (links.length === MAX_LINKS) {
      if (!this.#facts.notes.includes(TOO_MANY_LINKS)) this.note(TOO_MANY_LINKS);
      return;
    }
    const fragment = url.hash.slice(1);
    url.hash = "";
    const link = { href: url.href, fragment, text: "" };
    links.push(link);
    this.#gather(element, (text) => (link.text = text.slice(0, 200).toWellFormed()));
  }

  #heading(element: Element): void {
    const { headings } = this.#facts;
    if (headings.length === MAX_HEADINGS) return;
    const heading = { level: Number(element.tagName.slice(1)), text: "" };
    headings.push(heading);
    this.#gather(element, (text) => (heading.text = text.slice(0, 300).toWellFormed()));
  }

  /** A paragraph may end without an end tag: where the next one begins. */
  #openParagraph(element: Element): void {
    if (this.#paragraph) this.#finish(this.#paragraph);
    const { paragraphs } = this.#facts;
    this.#paragraph = this.#gather(element, (text) => {
      if (paragraphs.length < MAX_PARAGRAPHS && text.length >= 40)
        paragraphs.push(text.slice(0, 600).toWellFormed());
    });
  }
}

const TOO_MANY_LINKS = `only the first ${MAX_LINKS} links were read`;

function attribute(element: Element, name: string): string {
  return decodeEntities(element.getAttribute(name) ?? "");
}

/** Calls `ended` at the end tag; at once when the element has none. */
function onEnd(element: Element, ended: () => void): void {
  try {
    element.onEndTag(ended);
  } catch {
    ended();
  }
}

/** Runs of letters and digits. Scripts that are written without spaces count a run as one word. */
export function countWords(text: string): number {
  return text.match(/[\p{L}\p{N}][\p{L}\p{N}\p{M}'’_-]*/gu)?.length ?? 0;
}
