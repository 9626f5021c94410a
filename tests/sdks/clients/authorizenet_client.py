"""Authorize.Net's official SDK: PyXB objects of its schema, built from `params` by their names.

`call` is the name of a request without its last word: `createTransaction`. `url` is the whole
address. It has no setting for a proxy, an authority, a timeout or a header: `https_proxy` and
`REQUESTS_CA_BUNDLE` of its process do the first two. The answer has no `object` where the SDK
gives None, as it does for a status of 400 and more.
"""

from typing import Any

import requests

from tests.sdks.clients.lines import Counted, Json, NoSuchCall, Order, module, serve

apicontractsv1 = module("authorizenet.apicontractsv1")
apicontrollers = module("authorizenet.apicontrollers")


def _elements(kind: type) -> Json:
    elements: dict[Any, Any] = {}
    for each in reversed(kind.__mro__):
        elements |= getattr(each, "_ElementMap", {})
    return {name.localName(): element for name, element in elements.items()}


def _filled(thing: object, fields: Json) -> object:
    """Set a binding's fields; the order of the schema is the SDK's affair, not ours."""
    elements = _elements(type(thing))
    for name, value in fields.items():
        kind = elements[name].elementBinding().typeDefinition()
        if isinstance(value, list):
            getattr(thing, name).extend(_filled(kind(), each) for each in value)
        else:
            setattr(thing, name, _filled(kind(), value) if isinstance(value, dict) else value)
    return thing


def _read(element: Any) -> Any:  # noqa: ANN401 - a text, or what has children
    children = list(element.iterchildren())
    if not children:
        return element.text
    found: dict[str, list[Any]] = {}
    for child in children:
        found.setdefault(child.tag.rpartition("}")[2], []).append(_read(child))
    return {name: each[0] if len(each) == 1 else each for name, each in found.items()}


class AuthorizeNet:
    """One process's calls."""

    def __init__(self) -> None:
        self.requests = Counted((requests.adapters.HTTPAdapter, "send"))

    def called(self, order: Order) -> Json:
        build = getattr(apicontractsv1, f"{order.call}Request", None)
        control = getattr(apicontrollers, f"{order.call}Controller", None)
        if build is None or control is None or order.headers:
            raise NoSuchCall(order.call)
        who = {"name": order.keys["user"], "transactionKey": order.keys["api_key"]}
        request = _filled(build(), {"merchantAuthentication": who, **order.params})
        controller = control(request)
        if order.url is not None:
            controller.setenvironment(order.url)
        controller.execute()
        response = controller.getresponse()
        return {"object": None if response is None else _read(response)}

    def failed(self, error: Exception) -> Json:
        """It has no errors of its own: what comes is PyXB's, lxml's or Python's."""
        return {}


if __name__ == "__main__":
    serve(AuthorizeNet())
