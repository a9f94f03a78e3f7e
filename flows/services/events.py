"""Events outside a flow: posted to the Prefect server that is there; automations act on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from rich.markup import escape

from flows.services.progress import console
from flows.services.servers import prefect_server
from flows.services.up_state import answering
from storage.errors import ServerError
from storage.registry.models import ModelVersion

#: How the name of the state ends of a run, or a group of records, some of which failed.
ENDING = "records failed"
TEST = "holter.notify.test"
#: A promotion's events begin so, and end as its decision.
PROMOTION = "holter.promotion"
REFUSED, OVERRIDDEN = f"{PROMOTION}.refused", f"{PROMOTION}.overridden"

#: The events of a look for drift begin so.
DRIFT = "holter.drift"
DRIFT_ALARM = f"{DRIFT}.found"
#: What a test's event is about, and the beginning of what a model's event is about.
NOTICES, MODEL_RESOURCE = "holter.notices", "holter.model"
#: A canary's report did not pass: what it was to be released to keeps its version.
CANARY_REFUSED = "holter.release.refused"


def refusal(
    alias: str, person: str, against: Sequence[str], page: str, decision: str = "refused"
) -> dict[str, Any]:
    """What an event of a gate tells: which alias, who asked, what did not pass, where to look."""
    return {
        "alias": alias,
        "decision": decision,
        "who": person,
        "against": list(against),
        "page": page,
    }


def resource_of(model: ModelVersion) -> dict[str, str]:
    """A model version as what an event of a flow is about."""
    return {
        "prefect.resource.id": f"{MODEL_RESOURCE}.{model.name}",
        "prefect.resource.name": model.reference,
    }


def tell(event: str, resource: str, name: str, payload: Mapping[str, Any]) -> None:
    """Post an event where a Prefect server is there; without one nobody acts on events.

    What is told about has happened already: a server that does not answer is a warning.
    """
    with prefect_server() as api:
        if api is None:
            return
        try:
            with answering(api):
                post(event, resource, name, payload)
        except ServerError as error:
            console.print(f"[yellow]not told[/yellow]  {escape(str(error))}", soft_wrap=True)


def post(event: str, resource: str, name: str, payload: Mapping[str, Any]) -> UUID:
    """Post an event about a resource to the Prefect server; gives the event's id."""
    from prefect.client.orchestration import get_client
    from prefect.events.schemas.events import Event, Resource

    subject = Resource({"prefect.resource.id": resource, "prefect.resource.name": name})
    message = Event(event=event, resource=subject, payload=dict(payload))
    with get_client(sync_client=True) as client:
        client.request("POST", "/events", json=[message.model_dump(mode="json")])
    return message.id
