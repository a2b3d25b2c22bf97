"""The page try/ in a real Chromium, headless: what it computes, and what somebody does who cannot use a
mouse, has no network, or a phone.
"""

import base64
import io
import json
import re
import shutil
from urllib.parse import urlsplit

import numpy as np
import pytest
import soundfile as sf
import trying
import web
from browser import browsing

from mambamuse.sound.loudness import Loudness
from mambamuse.use.compiled import CompiledNetwork, CompiledStep
from mambamuse.use.live import WARM_UP, Live
from mambamuse.use.step import Carried, Running
from mambamuse.use.style import Style, mix
from mambamuse.use.tone import RunningTone
from mambamuse.use.transfer import transfer

PHONE = 390  # CSS pixels
AXE = web.HERE / "node_modules" / "axe-core" / "axe.min.js"

if words := web.missing():
    pytest.skip(words, allow_module_level=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    return trying.built(tmp_path_factory.mktemp("try") / "_site")


@pytest.fixture(scope="module")
def page(site, tmp_path_factory):
    "The page, opened, with its first output."
    with trying.served(site) as address, browsing(tmp_path_factory.mktemp("chromium")) as page:
        page.call("Network.enable")
        page.address = f"{address}{web.PAGE}.html"
        page.open(page.address)
        page.until("[...document.querySelectorAll('.front-hear')].filter(b => !b.disabled).length === 3")
        before = page.events.copy()
        assert not [
            name for name in asked(before) if name.endswith((".wasm", ".i32", "network.f32"))
        ]  # not yet
        page.click("document.querySelector('.front-start')")
        answered(page)
        trying.begin(page)
        yield page
        assert not page.wrong()


def asked(events) -> list[str]:
    "The addresses that were asked for."
    return [
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    ]


OUTPUT = "document.querySelectorAll('.front-panel')[3]"
LINE = f"{OUTPUT}.querySelector('.front-line').textContent"


def answered(page, before: str = ""):
    "Once the page has said how long another output than the one at the address `before` took."
    page.until(
        f"/answered in/.test({LINE}) && {OUTPUT}.querySelector('a').href != {json.dumps(before)}"
        f" && {OUTPUT}.querySelector('progress').hidden"
    )


def reloaded(page, reload):
    "The page once more, after `reload()`, when its sounds are there."
    page.js("window.before = true")
    reload()
    page.until("!window.before && document.querySelectorAll('.front-hear:not(:disabled)').length === 3")


def downloaded(page) -> tuple[str, np.ndarray]:
    "Name and samples of the file that the page offers."
    name, data = page.js(
        f"""fetch({OUTPUT}.querySelector('a').href).then(r => r.arrayBuffer()).then(b => [
            {OUTPUT}.querySelector('a').download,
            btoa(Array.from(new Uint8Array(b), c => String.fromCharCode(c)).join(''))])"""
    )
    return name, sf.read(io.BytesIO(base64.b64decode(data)))[0]


@pytest.mark.parametrize("kind", ("phrases", "notes"))
def test_what_the_page_computes_is_what_python_computes(page, kind):
    "benchmarks/browser.py does so with the first twelve pairs of both sets."
    network = Carried()
    for name, content, style in trying.pairs(kind)[:1]:
        made, _ = trying.transfer(page, name, content, [style, style], network.alphas)
        assert np.abs(made - transfer(content, style, network=network)).max() < 1e-4


def test_two_styles_and_other_alphas(page):
    "A quiet, short content; and a style of another length."
    (_, content, first), (_, second, _) = trying.pairs("phrases")[2:4]
    content, first, network = 0.02 * content[:9_001], first[4_000:], Carried()
    network.alphas = (0.5, 1, 0.2, 0, 0, 1, 0.7, 1, 0.1)
    style = mix([(Style.of(network, first), 0.7), (Style.of(network, second), 0.3)])
    made, _ = trying.transfer(page, "short", content, [first, second], network.alphas, 0.3, 0.8)
    assert np.abs(made - transfer(content, style, 0.8, network=network)).max() < 1e-4 * 0.02
    same, _ = trying.transfer(page, "short", content, [first, second], network.alphas, 0.3, 0)
    assert np.array_equal(same, content)


def heard_live(block: int) -> np.ndarray:
    "`(blocks, block)`: a phrase with a rest in it, then softer, as a microphone gives it."
    content = trying.pairs("phrases")[0][1][:24_000].copy()
    content[10_000:15_000] = 0
    content[15_000:] *= 0.05
    return content[: len(content) // block * block].reshape(-1, block)


@pytest.mark.parametrize("block", web.BLOCKS)
def test_live_plays_what_python_plays(page, block):
    "The worker gets the blocks of a microphone; Python's live has the same step, level, gate and loudness."
    _, _, style = trying.pairs("phrases")[1]
    network, heard = Carried(), heard_live(block)
    played = trying.live(page, heard, style, network.alphas)
    own = Style.of(network, style)
    step = CompiledStep(
        CompiledNetwork.carried(), own.statistics, content=Running(warm_up=WARM_UP), block=block
    )
    live = Live(step, tone=RunningTone(own.tone, network.tone))
    want = np.concatenate([live(samples) for samples in heard])
    assert np.abs(want).max() > 0.05 and np.abs(played - want).max() < 1e-4
    content = trying.live(page, heard, style, network.alphas, alpha=0)
    assert np.array_equal(content[live.delay :], heard.reshape(-1)[: -live.delay])


def test_the_download_is_what_the_command_would_write(page):
    name, made = downloaded(page)
    assert name == "Pan-Flute-phrase-as-Trumpet-phrase.wav"
    want = transfer(*(sf.read(web.sounds()[f"{who}, phrase"])[0] for who in ("Pan Flute", "Trumpet")))
    assert np.abs(made - want).max() < 1e-4


def test_all_are_played_equally_loud(page):
    "Gains of a loud sound, a quiet one, and one whose peaks leave no room; silence has none that matters."
    rng = np.random.default_rng(0)
    loud, quiet = (0.9 * rng.uniform(-1, 1, 32_000), 0.01 * rng.uniform(-1, 1, 32_000))
    peaky = quiet.copy()
    peaky[:16] = 0.5
    sounds = [sound.astype(np.float32) for sound in (loud, quiet, peaky)]
    gains = page.js(
        "import(new URL('sound.js', location.href)).then(({ equalGains }) =>"
        f" equalGains({json.dumps([trying.encoded(sound) for sound in sounds])}.map(samples)))"
    )
    found = []
    for sound, gain in zip(sounds, gains):
        meter = Loudness(16_000, 1)
        meter.push(gain * sound[None])
        found.append(meter.value())
        assert np.abs(gain * sound).max() < 0.9901
    assert np.ptp(found) < 0.05


def test_a_link_restores_the_settings_and_the_keyboard_changes_them(page):
    before = page.js(f"{OUTPUT}.querySelector('a').href")
    page.press("document.querySelector('.front-knobs input')", "Home", 36)  # alpha 0: the content itself
    answered(page, before)
    want = sf.read(web.sounds()["Pan Flute, phrase"])[0]
    assert np.abs(downloaded(page)[1] - want).max() < 1e-4
    address = page.js("location.href")
    assert "alpha=0&" in address and "content=Pan+Flute%2C+phrase" in address
    changed = re.sub("places=[^&]*", "places=1+0.5+0+1+0+1+1+0+1", address).replace("Pan+Flute", "Cello")
    reloaded(page, lambda: page.open(changed.replace("alpha=0&", "alpha=0.25&")))  # in the same tab
    settings = page.js("[...document.querySelectorAll('.front-slider input')].map(i => Number(i.value))")
    assert settings == [0.25, 0, 1, 0.5, 0, 1, 0, 1, 1, 0, 1]
    assert page.js("document.querySelector('.front select').value") == "Cello, phrase"
    page.click("document.querySelector('.front-start')")
    answered(page)


def test_one_click_plays_and_another_goes_on_with_the_next_sound(page):
    hear = "document.querySelectorAll('.front-hear')"
    pressed = f"[...{hear}].map(b => b.ariaPressed === 'true')"
    at = "Number(document.querySelector('.front-bar input').value)"
    page.press(f"{hear}[0]", " ", 32)
    page.until(f"{at} > 0.3")
    assert page.js(pressed) == [True, False, False, False]
    page.click(f"{hear}[3]")
    went_on = page.js(at)
    assert page.js(pressed) == [False, False, False, True] and went_on > 0.3
    page.click(f"{hear}[3]")
    assert page.js(pressed) == [False] * 4
    assert page.js(f"{OUTPUT}.querySelector('.front-cursor').hidden") is False


def test_own_files_and_what_is_none(page, tmp_path):
    first = "document.querySelector('.front-panel')"
    own, line = f"{first}.querySelector('.front-buttons button')", f"{first}.querySelector('.front-line')"
    (tmp_path / "score.wav").write_text("C D E")
    sf.write(tmp_path / "pause.wav", np.zeros(8_000), 16_000)
    sf.write(tmp_path / "hole.wav", np.array([0.5, np.nan] * 2_000), 16_000, subtype="FLOAT")
    sf.write(tmp_path / "inf.wav", np.array([0.1, np.inf] * 2_000), 16_000, subtype="FLOAT")
    sf.write(tmp_path / "click.wav", np.full(100, 0.5), 16_000)
    none = {
        "score.wav": "not audio that this browser can read",
        "pause.wav": "silence",
        "click.wav": "shorter than 0.05 s",
        "hole.wav": "there are NaN or infinite samples in it",
        "inf.wav": "there are NaN or infinite samples in it",
    }
    for name, why in none.items():
        page.upload(own, tmp_path / name)
        page.until(f"{line}.textContent.startsWith('{name}: {why}')")
    noise = 0.1 * np.random.default_rng(0).standard_normal((11 * 44_100, 2))
    sf.write(tmp_path / "my take.wav", noise, 44_100)
    before = page.js(f"{OUTPUT}.querySelector('a').href")
    page.upload(own, tmp_path / "my take.wav")
    answered(page, before)
    assert page.js(f"{line}.textContent") == "11 s long: its first 10 s are used"
    name, made = downloaded(page)
    assert name.startswith("my-take-as-") and len(made) == 160_000


def grave(page) -> list:
    "What axe-core finds on the page that is serious or worse: rule and element."
    page.js(AXE.read_text() + "; 1")
    found = page.js("axe.run().then(({ violations }) => violations)")
    return [
        (one["id"], node["html"][:120])
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]


@pytest.mark.skipif(not AXE.is_file(), reason="axe-core is missing: npm ci, in docs/web")
def test_everybody_can_use_it(page):
    "By axe-core, in both themes, folded out; the rules see a fault that is put in."
    page.js("document.querySelector('.front-advanced').open = true")
    for theme in ("light", "dark"):
        page.js(f"document.body.dataset.theme = '{theme}'")
        assert grave(page) == []
    page.js("document.querySelector('.front select').removeAttribute('aria-label')")
    assert [rule for rule, _ in grave(page)] == ["select-name"]
    page.js("document.querySelector('.front select').setAttribute('aria-label', 'sound for the content')")


def test_a_phone_is_wide_enough(page):
    page.size(PHONE, 844)
    try:
        assert page.js("document.documentElement.scrollWidth") <= PHONE
        small = page.js(
            "[...document.querySelectorAll('.front button, .front select')]"
            ".map(e => e.getBoundingClientRect())"
            ".filter(box => box.width && (box.height < 24 || box.right > innerWidth)).length"
        )
        assert small == 0
    finally:
        page.size(1_260, 880)


LIVE = "document.querySelector('.front-live')"


def test_live_from_the_microphone_to_the_loudspeaker(site, tmp_path):
    "A file is the microphone. Whoever is told that the machine is too slow may hear it all the same."
    sf.write(tmp_path / "microphone.wav", np.tile(trying.pairs("phrases")[0][1], 4), 16_000)
    button, said = f"{LIVE}.querySelector('button')", f"{LIVE}.textContent"
    flag = f"--use-file-for-fake-audio-capture={tmp_path / 'microphone.wav'}"
    with trying.served(site) as address, browsing(tmp_path, flag) as page:
        page.open(f"{address}{web.PAGE}.html")
        page.until("document.querySelectorAll('.front-hear:not(:disabled)').length === 3")
        page.js(TAP)
        page.click(button)
        page.until(f"{said}.includes('Live.') || {said}.includes('too slow for live')")
        if page.js(f"{said}.includes('too slow for live')"):
            page.click(button)
        page.until("loudest() > 0.01")
        page.until(f"/Heard [0-9]+ ms late.*[0-9]+ drop-outs in [0-9]+ blocks/.test({said})")
        page.until(f"[...{LIVE}.querySelectorAll('meter')].every(m => m.value > m.min)")
        page.press("document.querySelector('.front-knobs input')", "Home", 36)  # alpha: goes on
        assert "alpha=0&" in page.js("location.href") and page.js(f"{button}.ariaPressed") == "true"
        assert not AXE.is_file() or grave(page) == []
        page.click(button)
        page.until(f"{button}.ariaPressed === 'false'")
        page.until("loudest() === 0")
        assert not page.wrong()


TAP = """(() => {
    const connect = AudioNode.prototype.connect;
    AudioNode.prototype.connect = function (target, ...rest) {
        if (this instanceof AudioWorkletNode) {
            const tap = new AnalyserNode(this.context, { fftSize: 2048 });
            connect.call(this, tap);
            window.loudest = () => {
                if (tap.context.state === 'closed') return 0;
                const samples = new Float32Array(2048);
                tap.getFloatTimeDomainData(samples);
                return Math.max(...samples.map(Math.abs));
            };
        }
        return connect.call(this, target, ...rest);
    };
    window.loudest = () => 0;
})()"""  # hears what goes to the loudspeaker


def test_it_asks_no_other_host(page):
    here = urlsplit(page.address).netloc
    hosts = {urlsplit(name).netloc for name in asked(page.events) if not name.startswith(("data:", "blob:"))}
    assert hosts == {here}
    assert any(name.endswith("style.css") or name.endswith("front.css") for name in asked(page.events))


def test_it_opens_and_computes_without_a_network(site, tmp_path):
    "The server is gone when the page is opened again."
    with browsing(tmp_path) as page:
        with trying.served(site) as address:
            page.open(f"{address}{web.PAGE}.html")
            page.until("document.querySelectorAll('.front-hear:not(:disabled)').length === 3")
            page.click("document.querySelector('.front-start')")
            page.until(
                "navigator.serviceWorker.ready.then(() => Boolean(navigator.serviceWorker.controller))"
            )
        reloaded(page, lambda: page.call("Page.reload"))
        page.click("document.querySelector('.front-start')")
        answered(page)
        styled = "getComputedStyle(document.querySelector('.front-panels')).display"
        assert page.js(styled) == "grid" and not page.wrong()


def test_damaged_files_are_named_and_it_can_be_tried_again(site, tmp_path):
    "Weights of which a half came, or of which one bit is another; then they are whole."
    hurt = tmp_path / "site"
    shutil.copytree(site, hurt)
    file = hurt / "try" / web.CONSTANTS
    data = file.read_bytes()
    line = "document.querySelectorAll('.front-panel')[3].querySelector('.front-line').textContent"
    start = "document.querySelector('.front-start')"
    with trying.served(hurt) as address, browsing(tmp_path) as page:
        page.call("Network.enable")
        page.call("Network.setCacheDisabled", cacheDisabled=True)
        page.call("Network.setBypassServiceWorker", bypass=True)
        for damaged in (data[: len(data) // 2], data[:-1] + bytes([data[-1] ^ 1])):
            file.write_bytes(damaged)
            page.open(f"{address}{web.PAGE}.html")
            page.until("document.querySelectorAll('.front-hear:not(:disabled)').length === 3")
            page.click(start)
            page.until(f"{line} === '{web.CONSTANTS}: damaged on its way; reload the page'")
        file.write_bytes(data)
        page.click(start)
        page.until(f"/answered in/.test({line})")
        assert page.js(f"{start}.hidden")
