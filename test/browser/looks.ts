/** Questions that a page answers about itself. Texts, for they run in the browser and not here. */

export const LOOKS = {
  /** Texts whose contrast with their ground is below 4.5:1. Anything with a gradient or of no size is left out. */
  faintTexts: `(() => {
    const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const rgb = (color) => {
      canvas.clearRect(0, 0, 1, 1);
      canvas.fillStyle = color;
      canvas.fillRect(0, 0, 1, 1);
      return [...canvas.getImageData(0, 0, 1, 1).data];
    };
    const channel = (c) => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
    const ground = (node) => {
      for (; node; node = node.parentElement) {
        const color = rgb(getComputedStyle(node).backgroundColor);
        if (color[3] === 255) return color;
      }
      return [255, 255, 255, 255];
    };
    const faint = [];
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
      const node = texts.currentNode.parentElement;
      const text = texts.currentNode.textContent.trim();
      if (text === "" || !node.checkVisibility() || node.closest(".hidden, .skip, noscript")) continue;
      const [a, b] = [light(rgb(getComputedStyle(node).color)), light(ground(node))];
      const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
      if (contrast < 4.5) faint.push(text.slice(0, 40) + " " + contrast.toFixed(2));
    }
    return [...new Set(faint)];
  })()`,

  /** Controls without a name, ids that are there twice, references to nothing, a page without its one h1 and main. */
  flaws: `(() => {
    const flaws = [];
    const nameOf = (node) =>
      node.getAttribute("aria-label") ?? [...(node.labels ?? [])].map((l) => l.textContent).join("") + node.textContent;
    for (const node of document.querySelectorAll("a, button, input, select, textarea, summary")) {
      if (nameOf(node).trim() === "") flaws.push("no name: " + node.outerHTML.slice(0, 80));
    }
    const ids = [...document.querySelectorAll("[id]")].map(({ id }) => id);
    for (const id of new Set(ids.filter((id, i) => ids.indexOf(id) !== i))) flaws.push("twice: " + id);
    for (const name of ["aria-labelledby", "aria-describedby"]) {
      for (const node of document.querySelectorAll("[" + name + "]")) {
        if (!document.getElementById(node.getAttribute(name))) flaws.push(name + " of nothing: " + node.className);
      }
    }
    for (const tag of ["h1", "main"]) {
      if (document.querySelectorAll(tag).length !== 1) flaws.push("not one " + tag);
    }
    for (const row of document.querySelectorAll("[role=row]")) {
      const cells = [...row.children].every((cell) => /cell|columnheader/.test(cell.getAttribute("role")));
      if (!cells || !row.closest("[role=table]")) flaws.push("a row that is none");
    }
    if (document.documentElement.lang === "") flaws.push("no language");
    return flaws;
  })()`,

  focusIsVisible: `getComputedStyle(document.activeElement).outlineStyle !== "none"`,

  movingThings: `document.getAnimations().map((animation) => animation.animationName)`,
};
