/** Markdown as a page of HTML, with the anchors that GitHub gives to headings. */
import { Marked } from "marked";

export interface NavEntry {
  path: string;
  title: string;
}

export function renderPage(markdown: string, title: string, nav: readonly NavEntry[]): string {
  const slug = slugger();
  const marked = new Marked({
    gfm: true,
    renderer: {
      heading({ tokens, depth }) {
        const id = slug(this.parser.parseInline(tokens, this.parser.textRenderer));
        return `<h${depth} id="${escapeHtml(id)}">${this.parser.parseInline(tokens)}</h${depth}>\n`;
      },
    },
  });
  const links = nav.map(
    ({ path, title: text }) => `<li><a href="${escapeHtml(path)}">${escapeHtml(text)}</a></li>`,
  );
  return `<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>${escapeHtml(title)}</title></head>
<body>
<nav><ul>${links.join("")}</ul></nav>
<main>
${marked.parse(markdown, { async: false })}
</main>
</body>
</html>
`;
}

/** The first heading, or the file's own name. */
export function titleOf(markdown: string, fallback: string): string {
  return /^#\s+(.+?)\s*#*$/m.exec(markdown)?.[1]?.replace(/[`*_]/g, "") ?? fallback;
}

/** Ids as GitHub makes them, unique within one page. */
function slugger(): (text: string) => string {
  const used = new Map<string, number>();
  return (text) => {
    const plain = text.replace(/&(?:#?\w+);/g, "");
    const base = plain
      .toLowerCase()
      .trim()
      .replace(/[^\p{L}\p{N}\p{M}\p{Pc} -]/gu, "")
      .replace(/ /g, "-");
    const times = used.get(base) ?? 0;
    used.set(base, times + 1);
    return times === 0 ? base : `${base}-${times}`;
  };
}

export function escapeHtml(text: string): string {
  return text.replace(
    /[&<>"]/g,
    (mark) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[mark] ?? mark,
  );
}
