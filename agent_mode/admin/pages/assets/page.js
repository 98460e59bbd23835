// Where the session has ended, or the server is another one, the page's socket stays closed. Then the page
// asks whether it may still see anything here, and if not, goes to the sign-in by itself.
const own = document.currentScript.src;
setInterval(async () => {
  if (!window.did_handshake || window.socket?.connected) return;
  try {
    const reply = await fetch(own, { cache: "no-store" });
    if (reply.status === 401) location.reload();
  } catch {
    // the server is away; NiceGUI says so and connects again
  }
}, 3000);

// On a phone the navigation scrolls sideways; the current page is to be seen in it.
const search = setInterval(() => {
  const here = document.querySelector(".am-nav .am-here");
  if (!here) return;
  clearInterval(search);
  here.scrollIntoView({ inline: "center", block: "nearest" });
}, 100);

// What the libraries leave without a name. The code editor draws itself anew with each tab. What one types into has then neither name nor hint, and
// whoever looks for what can be focused does not see that it can: it has them from its box.
new MutationObserver(() => {
  document.querySelector(".q-loading-bar:not([aria-label])")?.setAttribute("aria-label", "Loading");
  for (const text of document.querySelectorAll(".am-code-box .cm-content:not([aria-label])")) {
    const box = text.closest(".am-code-box");
    text.setAttribute("aria-label", box.getAttribute("aria-label"));
    text.setAttribute("aria-describedby", box.getAttribute("aria-describedby"));
    text.setAttribute("tabindex", "0");
  }
}).observe(document.documentElement, { childList: true, subtree: true });

// A dialog of NiceGUI is taken away with the focus in it; then the focus goes back to where it came from.
let before = null;
let asking = false;
document.addEventListener("focusin", ({ target }) => {
  if (!target.closest(".q-dialog")) before = target;
});
new MutationObserver(() => {
  const closed = asking && !document.querySelector(".q-dialog");
  asking = Boolean(document.querySelector(".q-dialog"));
  if (closed && document.activeElement === document.body && before?.isConnected) before.focus();
}).observe(document.documentElement, { childList: true, subtree: true });

// What is typed in an editor and not saved is kept in this tab until it is saved or discarded, so that a restart
// of the server, a reload or a crash loses nothing. components/editor.py calls `agentMode`.
const TYPED = "agent-mode.typed:";
const AWAY = "agent-mode.away";
let kept = false;
let away = false;

window.agentMode = {
  dirty: false,
  touched() {
    this.dirty = true;
  },
  keep(place, draft) {
    try {
      sessionStorage.setItem(TYPED + place, JSON.stringify({ ...draft, at: Date.now() }));
      kept = true;
    } catch {
      this.forget(place); // the tab holds no more; then the browser asks before the page is left
    }
  },
  forget(place) {
    kept = false;
    sessionStorage.removeItem(TYPED + place);
  },
  found(place) {
    const wasAway = sessionStorage.getItem(AWAY) !== null;
    sessionStorage.removeItem(AWAY);
    const text = sessionStorage.getItem(TYPED + place);
    return text === null ? null : { ...JSON.parse(text), away: wasAway };
  },
  saved(place, goTo) {
    this.dirty = false;
    this.forget(place);
    if (goTo) location.assign(goTo);
  },
};

addEventListener("beforeunload", (event) => {
  if (away) sessionStorage.setItem(AWAY, "");
  if (agentMode.dirty && !(away && kept)) event.preventDefault();
});

document.addEventListener("submit", (event) => {
  if (!event.target.getAttribute("action")?.endsWith("/sign-out")) return;
  addEventListener("pagehide", () => {
    for (const name of Object.keys(sessionStorage)) if (name.startsWith(TYPED)) sessionStorage.removeItem(name);
  });
});

// While the server is away nothing can be typed: nobody would hear it. NiceGUI says so in its popup, which shows
// our words, and loads the page anew where the server is another one then.
const popup = document.getElementById("popup");
const [title, text] = popup.querySelectorAll("span");
let focused = null;
let lasting = 0;
new MutationObserver(() => {
  const main = document.getElementById("main");
  clearTimeout(lasting);
  if (popup.ariaHidden === "false") {
    if (!away) focused = document.activeElement;
    away = true;
    title.textContent = "The server restarts, or cannot be reached.";
    text.textContent = !agentMode.dirty
      ? "This page goes on by itself."
      : kept
        ? "Your text is kept, and this page goes on by itself."
        : "Your text is too long to be kept here: copy it.";
    if (main) main.inert = !agentMode.dirty || kept;
  } else if (away) {
    if (main) main.inert = false;
    if (focused?.isConnected) focused.focus({ preventScroll: true });
    lasting = setTimeout(() => (away = false), 3000); // the page may be loaded anew in this moment
  }
}).observe(popup, { attributeFilter: ["aria-hidden"] });
