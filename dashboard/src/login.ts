/**
 * The sign-in page: exchanges a token for the session's cookie.
 *
 * Owns the form. Relies on `POST /login` with `{ token }`, which sets an HttpOnly cookie. A token that comes in the
 * address's fragment (`#token=`) is taken out of it at once: it shall not stay in the history. Any other fragment is
 * where the app was asked to go.
 */
const form = required("#sign-in", HTMLFormElement);
const input = required("#token", HTMLInputElement);
const message = required("#message", HTMLElement);
const button = required("button", HTMLButtonElement);

let destination = "/";

form.addEventListener("submit", (event) => {
  event.preventDefault();
  void signIn(input.value.trim());
});

// A link to this very page changes the fragment and loads nothing.
addEventListener("hashchange", readFragment);
readFragment();

function readFragment(): void {
  const fragment = location.hash;
  const given = new URLSearchParams(fragment.slice(1)).get("token");
  if (fragment.startsWith("#/")) destination = `/${fragment}`;
  if (given === null) return;
  history.replaceState(null, "", location.pathname);
  if (given !== "") void signIn(given);
}

async function signIn(token: string): Promise<void> {
  button.disabled = true;
  message.textContent = "";
  const problem = await exchange(token);
  button.disabled = false;
  if (problem === undefined) {
    location.replace(destination);
    return;
  }
  message.textContent = problem;
  input.setAttribute("aria-invalid", "true");
  input.select();
}

/** What went wrong, if anything did. */
async function exchange(token: string): Promise<string | undefined> {
  try {
    const response = await fetch("/login", {
      method: "POST",
      credentials: "same-origin",
      headers: { "content-type": "application/json", accept: "application/json" },
      body: JSON.stringify({ token }),
    });
    if (response.ok) return undefined;
    if (response.status === 401 || response.status === 403) {
      return "This token is not known here. Check that it is whole, and of this deployment.";
    }
    return `The server answered ${response.status}. Try again in a moment.`;
  } catch {
    return "The server cannot be reached. Check the connection, and try again.";
  }
}

function required<T extends Element>(selector: string, type: new () => T): T {
  const element = document.querySelector(selector);
  if (!(element instanceof type)) throw new Error(`login.html lacks ${selector}`);
  return element;
}
