"""Notices: what people are told, and where to, by automations of the Prefect server."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import urlsplit
from uuid import UUID

from apprise import Apprise
from prefect.blocks.notifications import SlackWebhook
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.events.actions import SendNotification
from prefect.events.filters import EventFilter, EventNameFilter, EventResourceFilter
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification
from prefect.exceptions import ObjectNotFound
from pydantic import SecretStr

from flows.services.events import (
    CANARY_REFUSED,
    DRIFT_ALARM,
    ENDING,
    NOTICES,
    OVERRIDDEN,
    REFUSED,
    TEST,
    post,
)
from storage.errors import ServerError

#: Where notices go; from nowhere else.
ADDRESS = "HOLTER_NOTIFY_URL"
FORMS = (
    "https://hooks.slack.com/services/..., mailtos://USER:PASSWORD@HOST?from=...&to=..., "
    "https://HOST/PATH of a web hook of your own, or another address of Apprise"
)
#: The block that carries notices. Prefect has none for e-mail by SMTP; its Slack block hands every
#: address that is not Slack's to Apprise, which says what went wrong and does not log the address.
BLOCK, NAME = "slack-webhook", "holter-notify"
#: A run of one of our deployments; not of a flow within it, which fails with it.
RELATED_RESOURCES: list[ResourceSpecification | dict[str, str | list[str]]] = [
    {"prefect.resource.role": "tag", "prefect.resource.id": "prefect.tag.holter"},
    {"prefect.resource.role": "deployment"},
]


@dataclass(frozen=True)
class Kind:
    """A kind of notice: what it tells, on which events, in which words (Jinja of the server).

    It names deployments, versions and checks, and links to the rest: no record, and no reason that
    might hold one, leaves the servers.
    """

    description: str
    events: tuple[str, ...]
    subject: str
    body: str
    runs: bool = False
    shortest_gap: timedelta = timedelta(0)


RUN = "{{ flow.name }}/{{ deployment.name }}"
LINK = "\n{{ flow_run | ui_url }}"
MODEL = "{{ event.resource['prefect.resource.name'] }}"
KINDS = {
    "failure": Kind(
        "a run of a deployment failed or crashed",
        ("prefect.flow-run.Failed", "prefect.flow-run.Crashed", "prefect.flow-run.TimedOut"),
        f"Holter AF: {RUN} {{{{ flow_run.state.name | lower }}}}",
        f"Run {{{{ flow_run.name }}}} of {RUN} has {{{{ flow_run.state.name | lower }}}}.{LINK}",
        runs=True,
    ),
    "records": Kind(
        "a run of a deployment is done, but some records failed",
        (f"prefect.flow-run.*{ENDING}",),
        f"Holter AF: {RUN}: {{{{ flow_run.state.name }}}}",
        f"Run {{{{ flow_run.name }}}} of {RUN} is done, but {{{{ flow_run.state.name }}}}.{LINK}",
        runs=True,
    ),
    "late": Kind(
        "a run has not begun in time; at most once an hour",
        ("prefect.flow-run.Late",),
        f"Holter AF: {RUN} is late",
        f"Run {{{{ flow_run.name }}}} of {RUN} has not begun: is a worker there, and room in its "
        f"work pool?{LINK}",
        runs=True,
        shortest_gap=timedelta(hours=1),
    ),
    "drift": Kind(
        "recordings differ from those of the training",
        (DRIFT_ALARM,),
        f"Holter AF: drift of {MODEL}",
        f"{MODEL}, beyond its bound: {{{{ event.payload.beyond | join('; ') }}}}."
        "\n{{ event.payload.page }}",
    ),
    "gate": Kind(
        "a policy or a canary refused a version, or was overridden",
        (REFUSED, OVERRIDDEN, CANARY_REFUSED),
        f"Holter AF: {MODEL} {{{{ event.payload.decision }}}} as {{{{ event.payload.alias }}}}",
        f"{MODEL} was {{{{ event.payload.decision }}}} as {{{{ event.payload.alias }}}}, asked by "
        "{{ event.payload.who }}. Not passed: {{ event.payload.against | join('; ') }}."
        "\n{{ event.payload.page }}",
    ),
    "test": Kind(
        "holter notify --test",
        (TEST,),
        "Holter AF: test",
        "A test: what fails, drifts or is refused is told here.",
    ),
}


def block_of(address: str) -> SlackWebhook:
    """The block of Prefect that carries notices to an address.

    A web hook that Apprise does not know gets a POST of JSON: `title`, `message`, `type`.

    Raises
    ------
    ValueError
        Nothing is known that carries to such an address. The address is not in the message.
    """
    for url in (address, re.sub("^http", "json", address)):
        if Apprise.instantiate(url, suppress_exceptions=True) is not None:
            return SlackWebhook(url=SecretStr(url))
    scheme = urlsplit(address).scheme or "no scheme"
    raise ValueError(f"{ADDRESS}: found {scheme}://...; expected {FORMS}")


def set_up(kinds: Collection[str]) -> dict[str, UUID]:
    """Make the block and an automation of each kind, or bring those that are there up to date.

    One that was paused on Prefect's page stays paused; those of other kinds are taken away.

    Raises
    ------
    ValueError
        A kind that there is not; no address, or one that nothing carries to.
    """
    if unknown := sorted(set(kinds) - set(KINDS)):
        raise ValueError(f"no kind of notice {unknown[0]!r}; there are {', '.join(KINDS)}")
    if not (address := os.environ.get(ADDRESS, "").strip()):
        raise ValueError(f"{ADDRESS} is not set; expected {FORMS}")
    block_id = UUID(str(block_of(address).save(NAME, overwrite=True)))
    with get_client(sync_client=True) as client:
        automations = {name: _automation(client, name, KINDS[name], block_id) for name in kinds}
        for name in KINDS.keys() - automations.keys():
            _remove(client, name)
    return automations


def take_away() -> None:
    """Remove the automations and the block, with the address in it."""
    with get_client(sync_client=True) as client:
        for name in KINDS:
            _remove(client, name)
        with suppress(ObjectNotFound):
            document = client.read_block_document_by_name(NAME, BLOCK, include_secrets=False)
            client.delete_block_document(document.id)


def _automation(client: SyncPrefectClient, name: str, kind: Kind, block_id: UUID) -> UUID:
    """Make or update the automation of a kind; gives its id."""
    existing = client.read_automations_by_name(f"holter-{name}")
    automation = AutomationCore(
        name=f"holter-{name}",
        description=f"Made by `holter notify`: {kind.description}.",
        tags=["holter"],
        enabled=existing[0].enabled if existing else True,
        trigger=EventTrigger(  # with its defaults: an update sends but what is set
            type="event",
            posture=Posture.Reactive,
            expect=set(kind.events),
            match_related=RELATED_RESOURCES if kind.runs else [],
            within=kind.shortest_gap,
        ),
        actions=[
            SendNotification(
                type="send-notification",
                block_document_id=block_id,
                subject=kind.subject,
                body=kind.body,
            )
        ],
    )
    if not existing:
        return client.create_automation(automation)
    client.update_automation(existing[0].id, automation)
    return existing[0].id


def _remove(client: SyncPrefectClient, name: str) -> None:
    for automation in client.read_automations_by_name(f"holter-{name}"):
        client.delete_automation(automation.id)


def send_test(automation: UUID, patience_s: float = 60.0) -> None:
    """Raise the event of a test, and wait until the server says that it has sent the notice.

    Raises
    ------
    ServerError
        It could not be sent, and why; or the server says nothing of it.
    """
    event = post(TEST, NOTICES, "Holter AF", {})
    ends = ("prefect.automation.action.executed", "prefect.automation.action.failed")
    names = EventNameFilter(name=list(ends))
    resource = EventResourceFilter(id=[f"prefect.automation.{automation}"])
    deadline = time.monotonic() + patience_s
    with get_client(sync_client=True) as client:
        while time.monotonic() < deadline:
            # A new filter each time: it ends at the moment when it was made.
            query = EventFilter(event=names, resource=resource)
            for reply in client.read_events(query, limit=50).events:
                if f"prefect.event.{event}" not in [relation.id for relation in reply.related]:
                    continue
                if reply.event == ends[0]:
                    return
                reason = reply.payload.get("notification_log") or reply.payload.get("reason")
                raise ServerError(f"the Prefect server could not send the notice: {reason}")
            time.sleep(0.5)
    raise ServerError(
        f"the Prefect server said nothing of the notice within {patience_s:g} s; "
        "is the automation holter-test paused?"
    )
