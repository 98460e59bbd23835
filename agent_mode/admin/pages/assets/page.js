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
