"""What the page of `relay serve` promises, seen in Chromium: page.py PROGRAM [--show FILE.png]"""

import json
import os
import re
import sys
import time
import traceback
import urllib.request
from contextlib import contextmanager

from playwright.sync_api import expect, sync_playwright

from scene import MARKUP, SECRETS, TOKEN, Scene

NAME = "<script>document.title='run'</script><img src=x onerror=\"document.title='run'\">"
PHONE = {"width": 375, "height": 812}
DESK = {"width": 1180, "height": 900}


class Page:
    """A page opened with the token, and every address that the browser asked for."""

    def __init__(self, browser, url, viewport=None, answers=None, **context):
        self.context = browser.new_context(viewport=viewport or DESK, **context)
        self.page = self.context.new_page()
        self.asked, self.said = [], []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("console", lambda line: self.said.append(line.text))
        self.page.on("pageerror", lambda error: self.said.append(f"error: {error}"))
        for path, answer in (answers or {}).items():
            self.page.route(re.compile(re.escape(path)), answer)
        self.page.goto(url)

    def unlock(self, token=TOKEN):
        self.page.fill("#token", token)
        self.page.keyboard.press("Enter")
        return self

    def live(self):
        expect(self.page.locator("#connection")).to_have_text("live")
        return self

    def tile(self, name, upstream=0):
        section = self.page.locator("#upstreams > section").nth(upstream)
        tile = section.locator(".tiles > div").filter(has=self.page.get_by_text(name, exact=True))
        return tile.locator("dd").inner_text()

    def overflow(self):
        """What is wider than the window."""
        return self.page.evaluate("""() => {
            const wide = document.documentElement.clientWidth;
            const out = [...document.body.querySelectorAll('*')].filter((node) => node.getBoundingClientRect().right > wide + 0.5);
            return [document.documentElement.scrollWidth - wide, ...out.map((node) => node.outerHTML.slice(0, 120))];
        }""")

    def all_text(self):
        """Markup, and whatever scripts hold in fields of a form."""
        return self.page.evaluate(
            "() => document.documentElement.outerHTML + [...document.querySelectorAll('input')].map((i) => i.value)"
        )


def without_a_token_it_asks_for_one_and_shows_nothing(browser, scene):
    page = Page(browser, scene.url).page
    expect(page.locator("#asks")).to_have_text("The relay asks for a token.")
    assert page.locator("#upstreams section").count() == 0
    page.fill("#token", "wrong-token")
    page.keyboard.press("Enter")
    expect(page.locator("#asks")).to_have_text("The relay does not know this token.")
    page.fill("#token", "nö")
    page.keyboard.press("Enter")
    expect(page.locator("#asks")).to_have_text("A token is of visible ASCII characters, without blanks.")
    page.fill("#token", TOKEN)
    page.keyboard.press("Enter")
    expect(page.locator("#connection")).to_have_text("live")
    expect(page.locator("#ask")).to_be_hidden()
    stored = page.evaluate("() => [localStorage.length, sessionStorage.length, document.cookie, location.href]")
    assert stored == [0, 0, "", scene.url], stored


def numbers_change_without_a_reload(browser, scene):
    page = Page(browser, scene.url).unlock().live()
    scope = page.page.locator(".scopes > li").first
    before, curve = scope.inner_text(), page.page.locator(".plot path.s0").first.get_attribute("d")
    answered = int(re.search(r"([\d,]+) answered", before)[1].replace(",", ""))
    page.page.wait_for_timeout(3_000)
    after = int(re.search(r"([\d,]+) answered", scope.inner_text())[1].replace(",", ""))
    assert after > answered, (answered, after)
    assert page.page.locator(".plot path.s0").first.get_attribute("d") != curve
    assert re.fullmatch(r"[\d.]+ /s", page.tile("answered")), page.tile("answered")
    assert page.tile("answered") != "0 /s"


def who_opens_it_later_sees_what_was_before(browser, scene):
    page = Page(browser, scene.url).unlock().live().page
    points = page.locator(".plot path.s0").first.get_attribute("d").count("L")
    assert points >= 8, f"{points} points a second after it was opened"


def states_are_told_in_words(browser, scene):
    page = Page(browser, scene.url).unlock().live().page
    body = page.inner_text("body")
    for told in [
        "half open", "single calls find out whether it is back", "calls away",
        "rejected", "the provider refused this key", "Rests for", "after a refusal", "rests", "% left",
    ]:
        assert told in body, f"{told!r} is not in\n{body}"


def nothing_outside_is_asked_and_nothing_is_blocked_or_wrong(browser, scene):
    page = Page(browser, scene.url).unlock().live()
    page.page.wait_for_timeout(2_500)
    paths = {url.split("?")[0] for url in page.asked}
    allowed = {scene.url, scene.url + "status", scene.url + "history"}
    assert paths == allowed, paths
    wrong = [line for line in page.said if "401" not in line]
    assert not wrong, wrong


def no_secret_is_in_the_page_or_its_answers(browser, scene):
    page = Page(browser, scene.url).unlock().live()
    page.page.wait_for_timeout(1_500)
    told = page.all_text()
    for path in ["status", "history"]:
        request = urllib.request.Request(scene.url + path, headers={"x-api-key": TOKEN})
        told += urllib.request.urlopen(request).read().decode()
    for secret in SECRETS:
        assert secret not in told, f"secret number {SECRETS.index(secret)} is shown"


def a_name_that_is_markup_is_only_a_name(browser, scene):
    page = Page(browser, scene.url).unlock().live().page
    page.wait_for_timeout(1_200)
    assert page.get_by_text(NAME, exact=True).count() == 1
    assert page.locator("script").count() == 1
    assert page.locator("img").count() == 0
    assert page.title() == "relay", page.title()


def markup_that_got_in_all_the_same_would_not_run(browser, scene):
    page = Page(browser, scene.url).unlock().live()
    page.page.evaluate("""(name) => {
        document.querySelector('footer').innerHTML = name;
        const script = document.createElement('script');
        script.textContent = "document.title = 'run'";
        document.body.append(script);
    }""", NAME)
    page.page.wait_for_timeout(300)
    assert page.page.title() == "relay", page.page.title()
    assert any("Content Security Policy" in line for line in page.said), page.said
    inside = page.page.evaluate("() => fetch('http://127.0.0.1:9/').then(() => 'sent', () => 'blocked')")
    assert inside == "blocked"


def on_a_phone_nothing_is_wider_than_it(browser, scene):
    for scheme in ["light", "dark"]:
        page = Page(browser, scene.url, PHONE, color_scheme=scheme)
        assert page.overflow() == [0], page.overflow()
        page.unlock().live()
        assert page.overflow() == [0], page.overflow()


def text_can_be_read_in_light_and_dark(browser, scene):
    for scheme in ["light", "dark"]:
        page = Page(browser, scene.url, color_scheme=scheme).unlock().live().page
        least = page.evaluate(CONTRAST)
        assert least["ratio"] >= 4.5, least


# WCAG 2.2: relative luminance, and the ratio of text to what is behind it.
CONTRAST = """() => {
    const colour = (text) => text.match(/[\\d.]+/g).map(Number);
    const light = ([r, g, b]) => {
        const [x, y, z] = [r, g, b].map((c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
        return 0.2126 * x + 0.7152 * y + 0.0722 * z;
    };
    const behind = (node) => {
        for (; node; node = node.parentElement) {
            const ground = colour(getComputedStyle(node).backgroundColor);
            if (ground.length === 3 || ground[3] > 0) return ground;
        }
        return [255, 255, 255];
    };
    let least = { ratio: 99 };
    for (const node of document.body.querySelectorAll('*')) {
        const says = [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
        if (!says || !node.checkVisibility() || node.tagName === 'SCRIPT') continue;
        const [a, b] = [light(colour(getComputedStyle(node).color)), light(behind(node))].sort((x, y) => y - x);
        const ratio = (a + 0.05) / (b + 0.05);
        if (ratio < least.ratio) least = { ratio, text: node.textContent };
    }
    return least;
}"""


def it_rests_while_nobody_looks(browser, scene):
    page = Page(browser, scene.url).unlock().live()
    page.page.evaluate("""() => {
        Object.defineProperty(document, 'hidden', { value: true, configurable: true });
        document.dispatchEvent(new Event('visibilitychange'));
    }""")
    page.page.wait_for_timeout(500)
    before = len(page.asked)
    page.page.wait_for_timeout(2_500)
    assert len(page.asked) == before, "it asked while hidden"
    page.page.evaluate("""() => {
        Object.defineProperty(document, 'hidden', { value: false, configurable: true });
        document.dispatchEvent(new Event('visibilitychange'));
    }""")
    page.page.wait_for_timeout(1_500)
    assert len(page.asked) > before, "it does not ask once it is seen again"


def without_calls_it_says_how_to_make_one(browser, scene):
    fresh = Scene(sys.argv[1])
    try:
        page = Page(browser, fresh.url).unlock().live()
        body = page.page.inner_text("body")
        assert body.count("No calls yet.") == 3, body
        assert "asks for /v1/messages shows up here" in body
        assert "NaN" not in body and "undefined" not in body and "null" not in body, body
    finally:
        fresh.end()


def two_hundred_keys_are_shown_with_the_troubled_first(browser, scene):
    key = {"state": "usable", "retried_in_ms": None, "denied_models": [], "in_flight": 0, "totals": {"success": 5}}
    keys = [{**key, "alias": f"key-{number}"} for number in range(200)]
    keys[150] |= {"state": "breaker_open", "retried_in_ms": 70_000.0}
    scope = {"name": "many", "state": "exhausted", "retried_in_ms": 125_000.0, "in_flight": 0, "totals": {}, "keys": keys,
             "classes": [{"models": [], "rests_for_ms": None, "remaining": {"requests": -7}, "headroom": 0.0, "in_flight": 0}]}
    request = urllib.request.Request(scene.url + "status", headers={"x-api-key": TOKEN})
    status = json.load(urllib.request.urlopen(request))
    status["upstreams"] = status["upstreams"][:1]
    status["upstreams"][0]["scopes"] = [scope] + [{**scope, "name": f"scope-{n}"} for n in range(3)]
    answers = {"/-/status": lambda route: route.fulfill(json=status)}
    for viewport in [DESK, PHONE]:
        page = Page(browser, scene.url, viewport, answers)
        # The status is made up, the history still asks for a token.
        expect(page.page.locator("#ask")).to_be_visible()
        page.unlock().live()
        many = page.page.locator(".scopes > li").first
        expect(many.locator(".keys > li")).to_have_count(8)
        assert many.locator(".keys b").first.inner_text() == "key-150"
        assert "tried again in 70 s" in many.inner_text()
        assert "tried again in 2 min" in many.inner_text()
        assert "-7 requests" in many.inner_text()
        assert "800 keys, 4 not usable" in page.page.inner_text("#summary")
        many.get_by_role("button").click()
        expect(many.locator(".keys > li")).to_have_count(200)
        page.page.wait_for_timeout(1_200)
        expect(many.locator(".keys > li")).to_have_count(200)
        assert many.get_by_role("button").get_attribute("aria-expanded") == "true"
        assert page.overflow() == [0], page.overflow()


def a_lost_connection_is_told_and_found_again(browser, scene):
    page = Page(browser, scene.url).unlock().live()
    page.page.route("**/-/status", lambda route: route.abort())
    expect(page.page.locator("#connection")).to_have_text("connection lost")
    lost = page.page.locator("#lost")
    expect(lost).to_have_text(re.compile(r"^Connection lost at \d\d:\d\d:\d\d: the relay does not answer\."))
    assert page.page.title() == "relay (connection lost)"
    assert page.page.locator("#upstreams section").count() > 0, "what was known is gone"
    page.page.unroute("**/-/status")
    page.live()
    expect(lost).to_be_hidden()
    page.page.route("**/-/status", lambda route: route.fulfill(status=503, body="busy"))
    expect(lost).to_contain_text("the relay answers with status 503")
    page.page.unroute("**/-/status")
    page.live()


def a_relay_that_ends_is_a_lost_connection(browser, scene):
    fresh = Scene(sys.argv[1])
    try:
        page = Page(browser, fresh.url).unlock().live()
        fresh.relay.end()
        expect(page.page.locator("#connection")).to_have_text("connection lost")
    finally:
        fresh.end()


@contextmanager
def chromium():
    with sync_playwright() as driver:
        # In a container root has no other sandbox than the container.
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = driver.chromium.launch(executable_path=os.environ["CHROMIUM"], args=arguments)
        yield browser
        browser.close()


def picture(browser, scene, file):
    page = Page(browser, scene.url, color_scheme="light").unlock().live().page
    page.wait_for_timeout(1_500)
    last = page.locator("#upstreams > section").nth(1).bounding_box()
    clip = {"x": 0, "y": 0, "width": DESK["width"], "height": last["y"] + last["height"] + 14}
    page.screenshot(path=file, full_page=True, clip=clip)


CLAIMS = [
    without_a_token_it_asks_for_one_and_shows_nothing,
    numbers_change_without_a_reload,
    who_opens_it_later_sees_what_was_before,
    states_are_told_in_words,
    nothing_outside_is_asked_and_nothing_is_blocked_or_wrong,
    no_secret_is_in_the_page_or_its_answers,
    a_name_that_is_markup_is_only_a_name,
    markup_that_got_in_all_the_same_would_not_run,
    on_a_phone_nothing_is_wider_than_it,
    text_can_be_read_in_light_and_dark,
    it_rests_while_nobody_looks,
    without_calls_it_says_how_to_make_one,
    two_hundred_keys_are_shown_with_the_troubled_first,
    a_lost_connection_is_told_and_found_again,
    a_relay_that_ends_is_a_lost_connection,
]


def main():
    program, options = sys.argv[1], sys.argv[2:]
    shows = options[options.index("--show") + 1] if "--show" in options else None
    scene = Scene(program, "org-d" if shows else MARKUP)
    failed = 0
    try:
        scene.load(40 if shows is None else 14)
        time.sleep(12 if shows is None else 60)
        if shows:
            scene.load(30)
            time.sleep(75)
        with chromium() as browser:
            if shows:
                return picture(browser, scene, shows)
            for claim in CLAIMS:
                try:
                    claim(browser, scene)
                    print(f"ok      {claim.__name__}", flush=True)
                except Exception:
                    failed += 1
                    print(f"FAILED  {claim.__name__}\n{traceback.format_exc()}", flush=True)
                for context in browser.contexts:
                    context.close()
    finally:
        scene.end()
    print(f"{len(CLAIMS) - failed} passed, {failed} failed")
    sys.exit(failed > 0)


main()
