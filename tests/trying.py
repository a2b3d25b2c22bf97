"""The site's page try/ alone, in a real Chromium: for tests/test_try.py and benchmarks/browser.py."""

import base64
import json
import os
import sys
import threading
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile as sf

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs"))
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import build
import web

SETS = ROOT / "mambamuse" / "test_sets"
HOME = f"# Home\n\n```{{toctree}}\n/{web.PAGE}\n```\n"


def built(out: Path) -> Path:
    "The site with this one page in it, in the folder `out`."
    assert build.build(out, {"index.md": HOME, f"{web.PAGE}.md": web.page()}) == 0
    return out


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@contextmanager
def served(folder: Path):
    "The address of a server of the files below `folder`."
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


def pairs(kind: str) -> list[tuple[str, np.ndarray, np.ndarray]]:
    "Name, content and style, `(time,)` each, of the pairs of a test set, `phrases` or `notes`."
    rows = pd.read_csv(SETS / kind / "pairs.csv").itertuples()

    def sound(name):
        return sf.read(SETS / kind / name, dtype="float32")[0]

    return [(row.pair, sound(row.content), sound(row.style)) for row in rows]


def begin(page) -> None:
    "Let the open page have a client of its own, and what passes sounds in and out."
    page.js(
        """import(new URL('client.js', location.href)).then(({ Client }) => {
            window.trial = new Client();
            window.samples = words =>
                new Float32Array(Uint8Array.from(atob(words), c => c.charCodeAt(0)).buffer);
            window.words = samples => btoa(Array.from(new Uint8Array(samples.buffer, samples.byteOffset,
                samples.byteLength), c => String.fromCharCode(c)).join(''));
        })"""
    )


def encoded(sound: np.ndarray) -> str:
    return base64.b64encode(sound.astype("<f4").tobytes()).decode()


def transfer(page, name: str, content, styles, alphas, mix=0.0, alpha=1.0) -> tuple[np.ndarray, float]:
    """The page's output for a content `(time,)` and one or two `styles`, and the seconds that it took there.

    `name` is the content's; a style is known by its number and samples.
    """
    sounds = [dict(name=name, samples=encoded(content))]
    sounds += [dict(name=str(hash(style.tobytes())), samples=encoded(style)) for style in styles]
    asked = json.dumps(dict(mix=mix, alpha=alpha, alphas=list(alphas)))
    answer = page.js(
        f"""(async () => {{
            const [content, ...styles] = {json.dumps(sounds)}.map(
                ({{ name, samples }}) => ({{ name, samples: window.samples(samples) }}));
            const began = performance.now();
            const made = await trial.transfer({{ content, styles, ...{asked} }});
            return [words(made), (performance.now() - began) / 1000];
        }})()"""
    )
    return np.frombuffer(base64.b64decode(answer[0]), "<f4"), answer[1]


def live(page, blocks: np.ndarray, style: np.ndarray, alphas, alpha=1.0) -> np.ndarray:
    """What the page's worker plays for the `blocks (count, block)` of a microphone, one after the other; the
    sound card is this function.
    """
    sound = dict(name=str(hash(style.tobytes())), samples=encoded(style))
    asked = json.dumps(dict(mix=0, alpha=alpha, alphas=list(alphas)))
    answer = page.js(
        f"""(async () => {{
            const block = {blocks.shape[1]};
            const style = {json.dumps(sound)};
            style.samples = samples(style.samples);
            const heard = samples({json.dumps(encoded(blocks))});
            const played = new Float32Array(heard.length);
            const {{ port1, port2 }} = new MessageChannel();
            const request = {{ styles: [style, style], ...{asked} }};
            await trial.ask("play", {{ request, block, port: port2 }}, [port2]);
            for (let at = 0; at < heard.length; at += block) {{
                port1.postMessage({{ at, samples: heard.slice(at, at + block), missed: 0 }});
            }}
            for (let left = heard.length / block; left > 0; left--) {{
                const {{ data }} = await new Promise(came => (port1.onmessage = came));
                played.set(data.samples, data.at);
            }}
            await trial.ask("end");
            return words(played);
        }})()"""
    )
    return np.frombuffer(base64.b64decode(answer), "<f4")
