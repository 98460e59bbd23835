"""Backups of all personas: what there are, make one, see what restoring one would change, restore it."""

from __future__ import annotations

from collections.abc import Sequence

from nicegui import ui

from agent_mode.admin.pages.components import toast, words
from agent_mode.admin.pages.components.banner import banner
from agent_mode.admin.pages.components.buttons import button
from agent_mode.admin.pages.components.confirm import confirm
from agent_mode.admin.pages.components.editor import editor_frame
from agent_mode.admin.pages.components.empty import empty
from agent_mode.admin.pages.components.listing import Column, Listing, Query
from agent_mode.admin.pages.components.progress import progress
from agent_mode.admin.pages.page import page
from agent_mode.admin.pages.visit import Visit
from agent_mode.store.backups import Backup, RestorePlan

_WORDS = {
    "created": ("come back", "green"),
    "updated": ("become as they were", "blue"),
    "removed": ("of your own go; their versions stay", "red"),
    "kept": ("shipped ones that are newer stay", "grey"),
    "unchanged": ("are as in the backup already", "grey"),
    "disabled": (
        "of these cannot be enabled: an agent has the name. Disable the agent first",
        "amber",
    ),
}


@page("/personas/backups", title="Backups")
async def persona_backups(visit: Visit) -> None:
    """The list."""
    backups = visit.runtime.backups
    kept = f"The newest {backups.policy.max_files} are kept, in {backups.folder}."
    when = "Made whenever personas changed, and at least every 7 days."
    if not backups.policy.automatic:
        when = "Automatic backups are switched off (valve enable_automatic_backups)."

    async def make() -> None:
        visit.runtime.db.check_lasting()
        with progress("Backing up …"):
            made = await backups.make("by hand")
        if made is None:
            toast.done("Nothing changed since the newest backup.")
            return
        visit.record("made", "backup", made.name)
        toast.done(f"{words.counted(made.personas, 'persona')} backed up.")
        await listing.refresh()

    async def load(query: Query) -> tuple[Sequence[Backup], int]:
        found = await backups.list()
        return found[query.offset : query.offset + query.limit], len(found)

    with editor_frame("Backups", back=("/personas", "Personas"), note=f"{when} {kept}") as editor:
        with editor.actions:
            button("Back up now", make, kind="main", icon="inventory_2")
        listing = Listing(
            load,
            [
                Column("Made", lambda backup: words.exact(backup.created_at)),
                Column("Personas", lambda backup: words.count(backup.personas), "number"),
                Column("Why", lambda backup: backup.reason),
                Column("State", _state),
            ],
            noun="backup",
            search="",
            href=lambda backup: f"/personas/backups/{backup.name}",
            empty=lambda: empty("No backup yet", "Make the first one.", icon="inventory_2"),
        )
        await listing.show()


def _state(backup: Backup) -> None:
    tone = "green" if backup.ok else "red"
    ui.label("good" if backup.ok else backup.problem).classes(f"am-state am-state--{tone}")


@page("/personas/backups/{name}", title="Backup")
async def persona_backup(visit: Visit, name: str) -> None:
    """What restoring it would change, and restoring it."""
    backups = visit.runtime.backups
    backup = await backups.verify(name)
    plan = await backups.preview(name)
    title = f"Backup of {words.exact(backup.created_at)}"
    note = f"{words.counted(backup.personas, 'persona')}, made: {backup.reason}."

    async def restore() -> None:
        text = "The present state is backed up first, so you can come back to it."
        if not await confirm("Restore this backup?", text, action="Restore", danger=True):
            return
        with progress("Restoring …"):
            done = await backups.restore(name, visit.author)
            await visit.runtime.personas.refresh(visit.runtime.persona_store)
        visit.record("restored", "backup", name)
        editor.actions.clear()
        body.clear()
        with body:
            banner("The backup is restored.", "Running chats use it from their next message on.", tone="good")
            _draw(done)
        toast.done("The backup is restored.")

    with editor_frame(title, back=("/personas/backups", "Backups"), note=note) as editor:
        with editor.actions:
            if plan.changes:
                button("Restore", restore, kind="danger", icon="settings_backup_restore")
        body = ui.element("div").classes("am-fields")
        with body:
            if plan.changes:
                banner("This is what restoring it would change.", "Nothing was changed yet.")
            elif plan.disabled:
                banner("All personas are as in this backup, as far as agents leave them their names.", "")
            else:
                banner("All personas are as in this backup.", "There is nothing to restore.", tone="good")
            _draw(plan)


def _draw(plan: RestorePlan) -> None:
    for name, (text, tone) in _WORDS.items():
        keys: tuple[str, ...] = getattr(plan, name)
        if not keys:
            continue
        with ui.element("section").classes("am-card"):
            with ui.row().classes("am-inline"):
                ui.label(name).classes(f"am-state am-state--{tone}")
                ui.label(f"{words.count(len(keys))} {text}")
            if name != "unchanged":
                ui.label(", ".join(keys)).classes("am-code")
