"""/docs and /redoc in a browser that reaches this server and nothing else: they work, and complain of nothing."""

import pytest
from browser import Browser, program

KEY = "a-key-of-the-tests-alone"

pytestmark = pytest.mark.skipif(program() is None, reason="there is no Chromium here")


@pytest.fixture
def server(serve, subject):
    return serve(API_KEYS_JSON=f'{{"{KEY}": "{subject}"}}')


@pytest.fixture
def browser(server):
    """Afterwards: nothing went wrong, and nobody but this server was asked for anything."""
    with Browser() as browser:
        yield browser
        browser.evaluate("new Promise(done => setTimeout(done, 500))")
        assert browser.faults == []
        elsewhere = [url for url in browser.asked if not url.startswith((server.url, "data:", f"blob:{server.url}"))]
        assert elsewhere == []


def paths(server) -> set[str]:
    return set(server.call("GET", "/openapi.json").ok()["paths"])


def press(browser, what: str, selector: str) -> None:
    browser.wait(what, f"document.querySelector({selector!r}) !== null")
    browser.evaluate(f"document.querySelector({selector!r}).click()")


def type_into(browser, selector: str, text: str) -> None:
    """As a person does, for React listens to the field's own setter."""
    browser.evaluate(
        f"""(() => {{
          const field = document.querySelector({selector!r});
          const set = Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value").set;
          set.call(field, {text!r});
          field.dispatchEvent(new Event("input", {{ bubbles: true }}));
        }})()"""
    )


def test_swagger_ui_shows_every_route(browser, server, tmp_path):
    browser.open(f"{server.url}/docs")
    browser.wait("the routes", "document.querySelectorAll('.opblock').length > 0")
    shown = browser.evaluate("[...document.querySelectorAll('.opblock-summary-path')].map(e => e.dataset.path)")
    assert set(shown) == paths(server)
    browser.picture(tmp_path / "docs.png")


def test_swagger_ui_calls_with_the_credential_that_it_is_given(browser, server, subject):
    browser.open(f"{server.url}/docs#/caller/getWhoami")
    press(browser, "the way to give a credential", ".btn.authorize")
    browser.wait("the form for it", "document.querySelector('#api_key_value') !== null")
    type_into(browser, "#api_key_value", KEY)
    press(browser, "the button that takes it", ".auth-btn-wrapper .authorize")
    press(browser, "the button that closes the form", ".auth-btn-wrapper .btn-done")
    press(browser, "the button to try it out", "#operations-caller-getWhoami .try-out__btn")
    press(browser, "the button to call", "#operations-caller-getWhoami .execute")
    answer = "#operations-caller-getWhoami .live-responses-table"
    browser.wait("an answer", f"document.querySelector({answer!r}) !== null")
    browser.wait("the subject", f"document.querySelector({answer!r}).innerText.includes({subject!r})")
    assert browser.answered[f"{server.url}/whoami"] == 200


def test_redoc_shows_every_operation_and_finds_it(browser, server, tmp_path):
    browser.open(f"{server.url}/redoc")
    browser.wait("the operations", "document.querySelectorAll('[data-section-id*=\"operation/\"]').length > 0")
    document = server.call("GET", "/openapi.json").ok()
    wanted = {operation["operationId"] for path in document["paths"].values() for operation in path.values()}
    sections = browser.evaluate(
        "[...document.querySelectorAll('[data-section-id*=\"operation/\"]')].map(e => e.dataset.sectionId)"
    )
    assert {section.rsplit("/", 1)[1] for section in sections} == wanted
    # The search is a worker: it may run, and finds.
    type_into(browser, "input[type=text]", "undelete")
    browser.wait("what was searched for", "document.querySelector('[data-role=\"search:results\"]') !== null")
    found = browser.evaluate("document.querySelector('[data-role=\"search:results\"]').innerText")
    assert "Undelete versions" in found
    browser.picture(tmp_path / "redoc.png")


@pytest.mark.parametrize("page", ["/docs", "/redoc"])
def test_a_page_runs_nothing_that_is_not_from_here(server, page):
    """What the policy is for: a script that got into the page does nothing, and the page sends nothing away."""
    with Browser() as browser:
        browser.open(f"{server.url}{page}")
        browser.wait("the page", "document.querySelector('#page')?.children.length > 0")
        browser.evaluate(
            """(() => {
              const script = document.createElement("script");
              script.textContent = "window.ran = true";
              document.body.append(script);
              const button = document.createElement("button");
              button.setAttribute("onclick", "window.ran = true");
              document.body.append(button);
              button.click();
            })()"""
        )
        assert browser.evaluate("window.ran === undefined")
        sent = browser.evaluate("fetch('http://127.0.0.2:1/').then(() => 'sent', error => String(error))")
        assert "TypeError" in sent
        assert any(fault.startswith("policy: script-src") for fault in browser.faults), browser.faults
        assert any(fault.startswith("policy: connect-src http://127.0.0.2") for fault in browser.faults), browser.faults
