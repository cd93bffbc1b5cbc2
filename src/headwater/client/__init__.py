"""HTTP calls to other services: declared as typed interfaces, found through discovery.

`client`, `get`, `post`, ... declare an interface; `connect` returns an object that implements it.
`HttpCaller` is what both this and the remote buses send through.
"""

from headwater.client.connect import Interceptor, Next, Observer, connect, disconnect
from headwater.client.declarations import client, delete, get, head, patch, post, put
from headwater.client.http import HttpCaller
from headwater.client.marks import BodyParam, HeaderParam, QueryParam, Response
from headwater.client.messages import Credentials, Reply, Request

__all__ = [
    "BodyParam",
    "Credentials",
    "HeaderParam",
    "HttpCaller",
    "Interceptor",
    "Next",
    "Observer",
    "QueryParam",
    "Reply",
    "Request",
    "Response",
    "client",
    "connect",
    "delete",
    "disconnect",
    "get",
    "head",
    "patch",
    "post",
    "put",
]
