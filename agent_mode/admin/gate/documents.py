"""Our own small documents of the Agents page: the sign-in form, and what stands where there is no page."""

from __future__ import annotations

from functools import cache
from html import escape
from importlib.resources import files


def sign_in(
    nonce: str,
    *,
    action: str,
    target: str,
    accounts: bool,
    refusal: str = "",
    hint: str = "",
    email: str = "",
) -> str:
    """The sign-in form.

    Args:
        nonce: of the document's policy.
        action: where the form is sent.
        target: the page to go to afterwards.
        accounts: whether accounts of Open WebUI can be checked.
        refusal: why the last attempt failed.
        hint: the cure.
        email: what was entered.
    """
    alert = (
        f'<div class="alert" role="alert"><p>{escape(refusal)}</p><p>{escape(hint)}</p></div>'
        if refusal
        else ""
    )
    account = _ACCOUNT.replace("{{email}}", escape(email)) if accounts else _NO_ACCOUNT
    body = (
        _FORM.replace("{{action}}", escape(action))
        .replace("{{account}}", account)
        .replace("{{target}}", escape(target))
        .replace("{{alert}}", alert)
    )
    return _document(nonce, "Sign in", body)


def notice(nonce: str, title: str, text: str, hint: str) -> str:
    """A document that says why there is no page, and the cure."""
    body = f"<h1>{escape(title)}</h1><p>{escape(text)}</p><p>{escape(hint)}</p>"
    return _document(nonce, title, body)


def once_more(nonce: str, target: str) -> str:
    """A document that goes to the page again.

    A browser that comes from another site keeps back the session's cookie; from here it sends it.
    """
    address = escape(target)
    body = f'<p>One moment … <a href="{address}">go on</a></p>'
    return _document(nonce, "One moment", body, f'<meta http-equiv="refresh" content="0;url={address}">')


def _document(nonce: str, title: str, body: str, head: str = "") -> str:
    return (
        _template()
        .replace("{{nonce}}", nonce)
        .replace("{{head}}", head)
        .replace("{{title}}", escape(title))
        .replace("{{body}}", body)
    )


@cache
def _template() -> str:
    return files("agent_mode.admin.gate").joinpath("document.html").read_text(encoding="utf-8")


_FORM = """<h1>Sign in to Agent Mode</h1>
{{alert}}
<form method="post" action="{{action}}">
<input type="hidden" name="next" value="{{target}}">
<label for="key">Connection key</label>
<input id="key" name="key" type="password" autocomplete="off" autofocus spellcheck="false">
<p class="note">What ./start.sh prints, or PIPELINES_API_KEY. An admin's API key of Open WebUI
is good too.</p>
{{account}}
<button type="submit">Sign in</button>
</form>"""

_ACCOUNT = """<fieldset><legend>or as an admin of Open WebUI</legend>
<label for="email">E-mail address</label>
<input id="email" name="email" type="text" inputmode="email" autocomplete="username" value="{{email}}">
<label for="password">Password</label>
<input id="password" name="password" type="password" autocomplete="current-password">
</fieldset>"""

_NO_ACCOUNT = (
    """<p class="note">To sign in with an account of Open WebUI, set OPENWEBUI_URL and restart.</p>"""
)
