/** Markup that would give itself away if a page took it for markup. */
export const HOSTILE = `<img src=x onerror="document.title='taken over'"><b id="injected">"'&</b>`;
