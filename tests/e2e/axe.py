"""axe-core on a page, as Playwright has it open: what of WCAG 2.1 A and AA a program can find."""

# axe is in the environment of the end-to-end tests alone.
# pyright: reportMissingImports=false
from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Frame, Page

LEVELS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]

_RUN = """async ([levels, leftOut]) => {
  const only = { type: "tag", values: levels };
  const options = { runOnly: only, resultTypes: ["violations"], preload: false };
  const { violations } = await axe.run(document, options);
  const allowed = (rule, node) => leftOut.some(
    ([left, selector]) => left === rule && document.querySelector(node.target.at(-1))?.closest(selector));
  return violations.flatMap(({ id, nodes }) => nodes.filter((node) => !allowed(id, node)).map((node) => {
    const why = [...node.any, ...node.all, ...node.none].map((check) => check.message).join("; ");
    return `${id} at ${node.target.join(" ")} (${node.html.slice(0, 120)}): ${why}`;
  }));
}"""
# Quasar lays a transparent sheet for the light of the mouse over each button: axe gives up on the colours
# below it. And axe takes the shade behind a dialog for one that lies on the dialog.
_UNCOVER = """() => {
  const sheet = document.createElement("style");
  sheet.textContent = ".q-focus-helper { display: none } .q-dialog__backdrop { background: none }";
  document.head.append(sheet);
}"""


def violations(
    page: Page | Frame, *, left_out: tuple[tuple[str, str], ...] = (), uncover: bool = True
) -> list[str]:
    """What is against the rules on a page as it stands, in words: rule, selector, element, why.

    Args:
        page: a page, or a frame in it.
        left_out: rule and selector of elements that are none of ours.
        uncover: whether Quasar is there.
    """
    if page.evaluate("() => !window.axe"):
        page.evaluate(_source())
        if uncover:
            page.evaluate(_UNCOVER)
    return page.evaluate(_RUN, [LEVELS, [list(pair) for pair in left_out]])


@cache
def _source() -> str:
    return files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
