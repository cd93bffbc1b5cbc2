"""Path templates."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.gateway import templates


@pytest.mark.parametrize(
    ("path", "matching", "other"),
    [
        ("/accounts", ["/accounts"], ["/accounts/", "/account", "/accounts/7"]),
        ("/accounts/{id}", ["/accounts/7", "/accounts/a%2Fb"], ["/accounts/", "/accounts/7/x"]),
        ("/a/{x}/b/{y}", ["/a/1/b/2"], ["/a/1/c/2", "/a//b/2"]),
        ("/report-{year}.json", ["/report-2026.json"], ["/report-2026xjson", "/report-.json"]),
        ("/files/{rest:path}", ["/files/a", "/files/a/b/c"], ["/files/"]),
        ("/a.b/{x}", ["/a.b/1"], ["/aXb/1"]),
        ("/a/{item-no}/{größe.x}", ["/a/1/2"], ["/a/1", "/a/1/2/3"]),
        ("/käse/{x}", ["/k%C3%A4se/1"], ["/kse/1"]),
    ],
)
def test_pattern_matches_the_whole_path(path, matching, other):
    """A template's pattern matches its paths and no others."""
    pattern = re.compile(templates.pattern(path))
    assert [p for p in matching if not pattern.fullmatch(p)] == []
    assert [p for p in other if pattern.fullmatch(p)] == []


def test_specific_templates_come_first():
    """Literal segments come before partial ones, those before parameters, then open ends."""
    expected = [
        "/accounts/top",
        "/accounts/a-{x}",
        "/accounts/{id}",
        "/accounts/{id}/cards",
        "/accounts/{id}/{card}",
        "/accounts/{rest:path}",
        "/{rest:path}",
    ]
    backwards = expected[::-1]
    assert sorted(backwards, key=templates.rank) == expected


def test_shape_ignores_parameter_names():
    """Two templates have one shape exactly if they match the same paths."""
    assert templates.shape("/a/{x}/b") == templates.shape("/a/{y}/b")
    assert templates.shape("/a/{x}") != templates.shape("/a/{x:path}")


@pytest.mark.parametrize(
    "path", ["accounts", "", "/a/{x", "/a/x}", "/a/{}", "/a/{1x}", "/a?b=c", "/a#b", "/{x}/{x}"]
)
def test_faulty_template_is_named(path):
    """A template that cannot be understood has a fault that says why."""
    assert templates.fault(path)


def test_capture_takes_one_parameter():
    """A pattern captures the parameter that it is told to."""
    for name in ("y", "accountId", "account-id", "größe"):
        path = f"/a/{{x}}/b/{{{name}}}"
        assert templates.parameters(path) == ("x", name)
        found = re.fullmatch(templates.pattern(path, capture=name), "/a/1/b/2")
        assert found is not None
        assert found.groups() == ("2",)


_SEGMENTS = st.lists(st.sampled_from(["a", "b", "x-{}", "{}"]), min_size=1, max_size=4)


@given(st.lists(_SEGMENTS, min_size=1, max_size=8))
def test_first_match_is_a_most_specific_one(lists):
    """Of the templates that match a path, none is more literal than the first, left to right."""
    paths = {
        "/" + "/".join(s.replace("{}", f"{{p{i}}}") for i, s in enumerate(segments))
        for segments in lists
    }
    ordered = sorted(paths, key=templates.rank)
    for path in paths:
        concrete = re.sub(r"\{\w+\}", "v", path)
        matching = [p for p in ordered if re.fullmatch(templates.pattern(p), concrete)]
        assert matching[0] == min(matching, key=templates.rank)
        assert templates.rank(matching[0]) <= templates.rank(path)
