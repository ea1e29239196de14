"""Endpoints of DynamoDB found without looking through what a call carries."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from botocore.session import Session


def resolve_endpoints_fast(session: "Session") -> None:
    """Make the clients that a session creates from now on take every table of DynamoDB for one of their own account.

    A table that is named by its ARN may be another account's, which has an endpoint of its own. So at each call
    botocore gathers the tables of all its items, by JMESPath: a twelfth of what a transaction costs. Ours have names.
    """
    # A session keeps the models that it has loaded; the client reads the one that is changed here.
    model = session.get_component("data_loader").load_service_model("dynamodb", "service-2", api_version=None)
    for operation in model["operations"].values():
        operation.pop("operationContextParams", None)
