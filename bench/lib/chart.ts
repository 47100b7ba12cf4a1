/** W1 and W2 as a bar chart in SVG: no library, for it is two columns of rectangles. */
import { figureOf, shown } from "./figures.ts";
import type { MeasuredWork } from "./rounds.ts";

const BAR = 18;
const GAP = 8;
const LABEL = 290;
const WIDTH = 760;
const HEAD = 34;

export function toSvg(works: readonly MeasuredWork[]): string {
  let top = 0;
  const panels = works.map((work) => {
    const panel = panelOf(work, top);
    top += panel.height + 16;
    return panel.svg;
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${top}" width="${WIDTH}" height="${top}" role="img" aria-label="Milliseconds a step, by store and peer">`,
    `<style>text{font:12px system-ui,sans-serif;fill:#24292f}.t{font-weight:600}.f{fill:#afb8c1}.s{fill:#0969da}.p{fill:#d4a72c}.r{stroke:#57606a}</style>`,
    `<rect width="${WIDTH}" height="${top}" fill="#ffffff"/>`,
    ...panels,
    "</svg>\n",
  ].join("\n");
}

function panelOf({ id, title, unit, rows }: MeasuredWork, top: number): { svg: string; height: number } {
  const figures = rows.map(({ subject, samples }) => ({ subject, ...figureOf(samples) }));
  const most = Math.max(...figures.map(({ max }) => max));
  const x = (value: number): number => Math.round(LABEL + (value / most) * (WIDTH - LABEL - 60));
  const bars = figures.map(({ subject, median, min, max }, i) => {
    const y = top + HEAD + i * (BAR + GAP);
    const middle = y + BAR / 2;
    return [
      `<text x="${LABEL - 8}" y="${middle + 4}" text-anchor="end">${escaped(subject)}</text>`,
      `<rect class="${colourOf(subject)}" x="${LABEL}" y="${y}" width="${Math.max(1, x(median) - LABEL)}" height="${BAR}"/>`,
      `<line class="r" x1="${x(min)}" x2="${x(max)}" y1="${middle}" y2="${middle}"/>`,
      `<text x="${x(max) + 6}" y="${middle + 4}">${shown(median)}</text>`,
    ].join("");
  });
  const height = HEAD + figures.length * (BAR + GAP);
  const heading = `<text class="t" x="8" y="${top + 20}">${id}: ${escaped(title)} (${unit}, less is better)</text>`;
  return { svg: [heading, ...bars].join("\n"), height };
}

/** Grey for what the platform takes, blue for our stores, yellow for the peers. */
function colourOf(subject: string): string {
  if (subject.startsWith("floor")) return "f";
  return /^(coordinated|recorder objects|RPC binding|D1 store|memory|files)/.test(subject) ? "s" : "p";
}

function escaped(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
}
