"""Requests to DynamoDB sent as the adapter made them."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from botocore.session import Session

_TAKEN_AS_THEY_ARE = {"AttributeValue", "TransactWriteItem", "WriteRequest"}


def send_items_as_they_are(session: "Session") -> None:
    """Make the clients that a session creates from now on put items into JSON without looking at each value.

    botocore walks every request along the service's model, 130 steps for what an upload writes: a thirtieth of its
    cost. The adapter's items have nothing in them that the walk would change: it would encode binary attributes, and no
    item has one. botocore's own parser of replies hands attributes on unwalked then, too.
    """
    # "document" is what models call a value of any shape. A session keeps the models that it has loaded; the client
    # reads the one that is changed here.
    model = session.get_component("data_loader").load_service_model("dynamodb", "service-2", api_version=None)
    for name in _TAKEN_AS_THEY_ARE & model["shapes"].keys():
        model["shapes"][name]["document"] = True
