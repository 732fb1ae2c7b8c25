"""Walks through the views, in a real browser."""

from __future__ import annotations

import re
from typing import Any

import pytest

from .conftest import Site, playwright

expect = playwright.expect
VIEWS = ["", "invocations", "services", "approvals", "sessions", "state", "deployments", "sql"]


def open_view(page: Any, site: Site, place: str) -> None:
    page.goto(f"{site.admin}/ui/#/{place}")
    expect(page.get_by_role("navigation")).to_be_visible()


@pytest.mark.parametrize("place", VIEWS)
def test_every_view_opens_from_its_address(page: Any, site: Site, place: str) -> None:
    open_view(page, site, place)
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    expect(page.get_by_text("live", exact=True)).to_be_visible()
    assert page.evaluate("document.querySelectorAll('*').length") < 1500


def test_a_view_that_is_none(page: Any, site: Site) -> None:
    open_view(page, site, "nowhere")
    expect(page.get_by_text("There is no such page.")).to_be_visible()


def test_invocations_come_and_change_while_one_looks(page: Any, site: Site) -> None:
    open_view(page, site, "invocations")
    invocation_id = site.send("Agent/slow")
    row = page.locator(f'tr[data-key="{invocation_id}"]')
    expect(row).to_contain_text("running", timeout=15_000)
    expect(row).to_contain_text("succeeded", timeout=15_000)


def test_filters_are_in_the_address(page: Any, site: Site) -> None:
    failed, done = site.send("Agent/fail"), site.send("Agent/steps", 1)
    site.wait_for(failed, "failed")
    site.wait_for(done, "succeeded")
    open_view(page, site, "invocations")
    page.get_by_role("button", name="failed", exact=True).click()
    expect(page.locator(f'tr[data-key="{failed}"]')).to_be_visible()
    expect(page.locator(f'tr[data-key="{done}"]')).to_have_count(0)
    assert "status=failed" in page.url
    page.reload()
    expect(page.locator(f'tr[data-key="{failed}"]')).to_be_visible()
    expect(page.locator(f'tr[data-key="{done}"]')).to_have_count(0)


def test_a_run_is_chosen_and_read_by_keyboard(page: Any, site: Site) -> None:
    invocation_id = site.send("Agent/steps", 3)
    site.wait_for(invocation_id, "succeeded")
    open_view(page, site, "invocations")
    expect(page.locator(f'tr[data-key="{invocation_id}"]')).to_be_visible()
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text("inv_")
    page.goto(f"{site.admin}/ui/#/invocations/{invocation_id}")
    expect(page.get_by_role("option")).to_have_count(5)
    page.keyboard.press("j")
    page.keyboard.press("j")
    expect(page.get_by_role("complementary")).to_contain_text("step 0")
    assert "entry=" in page.url


def test_many_entries_are_few_nodes(page: Any, site: Site) -> None:
    invocation_id = site.send("Agent/steps", 2_000)
    site.wait_for(invocation_id, "succeeded")
    open_view(page, site, f"invocations/{invocation_id}")
    expect(page.get_by_role("option").first).to_be_visible()
    assert page.evaluate("document.querySelectorAll('*').length") < 1500
    page.locator(".wf-scroll").evaluate("element => element.scrollTop = element.scrollHeight")
    expect(page.get_by_text("step 1999")).to_be_visible()
    assert page.evaluate("document.querySelectorAll('*').length") < 1500


def test_what_a_tool_said_is_text(page: Any, site: Site) -> None:
    invocation_id = site.send("Agent/hostile")
    site.wait_for(invocation_id, "succeeded")
    for tab in ("", "?tab=io", "?tab=journal", "?entry=1"):
        open_view(page, site, f"invocations/{invocation_id}{tab}")
        expect(page.get_by_role("heading", level=1)).to_contain_text("inv_")
    expect(page.get_by_role("complementary")).to_contain_text("<script>")
    expect(page.get_by_role("complementary")).to_contain_text("\\u202e")
    assert page.evaluate("window.hacked") is None


def test_a_person_approves(page: Any, site: Site) -> None:
    invocation_id = site.send("Agent/wait")
    site.wait_for(invocation_id, "running", "suspended")
    open_view(page, site, f"invocations/{invocation_id}")
    expect(page.get_by_text("Waits for a person")).to_be_visible()
    open_view(page, site, "approvals")
    page.locator("tr", has_text=invocation_id[-4:]).get_by_text("Pay claim 17?").click()
    expect(page.get_by_text("It is dear.")).to_be_visible()
    page.keyboard.press("a")
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Your name").fill("anna")
    dialog.get_by_role("button", name="Approve").click()
    site.wait_for(invocation_id, "succeeded")
    expect(page.get_by_text(re.compile("approved by anna"))).to_be_visible()


def test_the_playground_calls(page: Any, site: Site) -> None:
    open_view(page, site, "services/Agent/steps")
    page.get_by_role("spinbutton").fill("2")
    page.get_by_role("button", name="Call").click()
    expect(page.get_by_text("Answer")).to_be_visible(timeout=15_000)
    page.get_by_role("button", name="As code").click()
    expect(page.get_by_text("holdfast call Agent/steps '2'")).to_be_visible()


def test_state_is_edited_against_the_version_that_was_seen(page: Any, site: Site) -> None:
    invocation_id = site.send("Chat/anna/say", "hello")
    site.wait_for(invocation_id, "succeeded")
    open_view(page, site, "state/Chat/anna")
    expect(page.get_by_role("heading", name="last")).to_be_visible()
    page.locator("section", has_text="last").get_by_role("button", name="Edit").click()
    page.get_by_label("Value as JSON").fill('"goodbye"')
    page.get_by_role("button", name="Look at the change").click()
    page.get_by_role("button", name="Change it").click()
    expect(page.get_by_text("goodbye").first).to_be_visible()


def test_an_error_says_what_failed_and_is_tried_again(page: Any, site: Site) -> None:
    open_view(page, site, "invocations/inv_1000000000000000000000000000000000")
    problem = page.get_by_role("alert").first
    expect(problem).to_contain_text("HF1")
    expect(problem.get_by_role("button", name="Try again")).to_be_visible()


def test_the_page_goes_on_after_a_restart_of_the_server(
    page: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with Site(tmp_path_factory.mktemp("restart")) as own:
        page.context.new_page()
        other = page.context.new_page()
        other.goto(f"{own.admin}/ui/#/invocations")
        first = own.send("Agent/steps", 1)
        expect(other.locator(f'tr[data-key="{first}"]')).to_contain_text("succeeded")
        own.stop()
        expect(other.get_by_text("reconnecting")).to_be_visible()
        own.start()
        second = own.send("Agent/steps", 1)
        expect(other.locator(f'tr[data-key="{second}"]')).to_contain_text("succeeded")
        expect(other.locator(f'tr[data-key="{first}"]')).to_have_count(1)


def test_both_themes(page: Any, site: Site) -> None:
    open_view(page, site, "")
    for wanted in ("light", "dark"):
        page.emulate_media(color_scheme=wanted)
        page.reload()
        expect(page.get_by_role("navigation")).to_be_visible()
        assert page.evaluate("document.documentElement.dataset.theme") == wanted
