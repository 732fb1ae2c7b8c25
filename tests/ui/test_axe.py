"""No view breaks a rule of accessibility that axe-core knows, in either theme."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.compat.npm import NotThere, installed

from .conftest import Site, playwright

VERSION = "4.14.1"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]
expect = playwright.expect


@pytest.fixture(scope="session")
def axe() -> str:
    manifest = json.dumps({"private": True, "dependencies": {"axe-core": VERSION}})
    try:
        modules = installed(f"axe-core-{VERSION}", manifest)
    except NotThere as reason:
        pytest.skip(str(reason))
    return (modules / "axe-core" / "axe.min.js").read_text()


@pytest.fixture(scope="session")
def places(site: Site) -> dict[str, str]:
    """The views, with something to show in each."""
    done, failed = site.send("Agent/steps", 20), site.send("Agent/fail")
    waiting, said = site.send("Agent/wait"), site.send("Chat/bo/say", "hello")
    site.wait_for(done, "succeeded")
    site.wait_for(failed, "failed")
    site.wait_for(said, "succeeded")
    site.wait_for(waiting, "running", "suspended")
    return {
        "overview": "",
        "invocations": "invocations",
        "run": f"invocations/{done}?entry=3",
        "failed run": f"invocations/{failed}?tab=io",
        "journal": f"invocations/{done}?tab=journal",
        "services": "services",
        "playground": "services/Agent/steps",
        "approvals": "approvals",
        "sessions": "sessions",
        "state": "state/Chat/bo",
        "deployments": "deployments",
        "sql": "sql",
        "lost": "nowhere",
    }


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_violations(
    browser: Any, site: Site, axe: str, places: dict[str, str], theme: str
) -> None:
    # axe is put in from outside, which the policy of the pages forbids, as it should.
    context = browser.new_context(
        viewport={"width": 1280, "height": 800}, color_scheme=theme, bypass_csp=True
    )
    page = context.new_page()
    found: dict[str, list[str]] = {}
    for name, place in places.items():
        page.goto("about:blank")
        page.goto(f"{site.admin}/ui/#/{place}")
        expect(page.get_by_text("live", exact=True)).to_be_visible()
        page.wait_for_load_state("networkidle")
        page.evaluate(axe)
        result = page.evaluate(f"axe.run(document, {{runOnly: {RULES}}})")
        problems = [
            f"{each['id']}: {node['html'][:120]}"
            for each in result["violations"]
            for node in each["nodes"]
        ]
        if problems:
            found[name] = problems
    context.close()
    assert found == {}
