"""URL paths of named routes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote

import falcon.routing

from ..errors import RegistrationError
from .route import TEMPLATE_FIELD

# RFC 3986 section 3.3: besides unreserved characters these need no encoding in a path.
IN_PATH = "/:@!$&'()*+,;="
# Fields without a converter: a URL has their values as they are.
PLAIN_FIELD = re.compile(r"{(\w+)}")
# RFC 3986 section 5.2.4: clients remove such segments, percent-encoded ones too.
DOT_SEGMENTS = {".", ".."}


class RouteURL:
    """The URL paths of a named route.

    Args:
        uri_template: The URI template of the route.
        converters: The converters of the application's URI templates.
    """

    def __init__(self, uri_template: str, converters: Mapping[str, type]) -> None:
        self.uri_template = uri_template
        # NOTE: literals at even indices, the names of fields at odd ones.
        self.parts = TEMPLATE_FIELD.split(uri_template)
        self.fields = set(self.parts[1::2])
        self.plain_fields = PLAIN_FIELD.findall(uri_template)
        self.router = falcon.routing.CompiledRouter()
        self.router.options.converters.update(converters)
        self.router.add_route(uri_template, object())

    def path_of(self, parameters: Mapping[str, object]) -> str:
        """Return the percent-encoded path of a URL that the route serves with these values.

        Raises:
            RegistrationError: A field has no value, or a value no field.
            ValueError: The route does not get the values from any URL.
        """
        for names, what in (
            (self.fields - parameters.keys(), "needs"),
            (parameters.keys() - self.fields, "has no field"),
        ):
            if names:
                raise RegistrationError(f"{self.uri_template!r} {what} {', '.join(sorted(names))}")
        texts = {name: str(value) for name, value in parameters.items()}
        path = "".join(texts[part] if at % 2 else part for at, part in enumerate(self.parts))
        found = self.router.find(path)
        if (
            found is None
            or "" in texts.values()
            or DOT_SEGMENTS.intersection(path.split("/"))
            or any(found[2][name] != texts[name] for name in self.plain_fields)
        ):
            raise ValueError(f"{self.uri_template!r} has no URL with {texts!r:.200}")
        return "".join(
            quote(texts[part], safe="/") if at % 2 else quote(part, safe=IN_PATH)
            for at, part in enumerate(self.parts)
        )
