// The page: the front end with a worker behind it, and settings in the address.

import { Client } from "./client.js";
import { front } from "./front.js";
import { decoded } from "./intake.js";
import { Play } from "./play.js";

const LONGEST = 10; // seconds

async function json(name) {
  const answer = await fetch(new URL(name, import.meta.url));
  return answer.json().catch(() => {
    throw new Error(`${name}: damaged on its way; reload the page`);
  });
}

/** Settings as the part of an address behind #, and back. */
function written(settings) {
  return new URLSearchParams({ ...settings, places: settings.places.join(" ") }).toString();
}

function read(words) {
  const found = Object.fromEntries(new URLSearchParams(words));
  for (const name of ["alpha", "mix"]) {
    if (name in found) found[name] = Number(found[name] || NaN);
  }
  if (found.places) found.places = found.places.split(" ").map(Number);
  return found;
}

async function begin() {
  const [about, sounds] = await Promise.all([json("about.json"), json("sounds.json")]);
  const client = new Client();
  const load = async (file) => {
    const answer = await fetch(new URL(file, import.meta.url));
    if (!answer.ok) throw new Error(`cannot be loaded (${answer.status})`);
    return (await decoded(await answer.blob(), LONGEST)).samples;
  };
  const kept = () => {
    const service = new URL("./service.js", import.meta.url);
    navigator.serviceWorker?.register(service).catch(() => {}); // then it needs its network the next time, too
  };
  const transfer = (request, tick) => {
    kept(); // what is loaded now, for the next time
    return client.transfer(request, tick);
  };
  addEventListener("hashchange", () => location.reload()); // a link to this page, opened in this tab
  front(document.getElementById("front"), {
    sounds: sounds.map(({ name, file }) => ({ name, load: () => load(file) })),
    places: about.places,
    longest: LONGEST,
    mixes: true,
    transfer,
    live: new Play(client),
    settings: read(location.hash.slice(1)),
    asks: `make the sound (loads ${about.megabytes} MB, once)`,
    changed: (settings) => history.replaceState(null, "", `#${written(settings)}`),
    link: (settings) => `${location.href.split("#")[0]}#${written(settings)}`,
  });
}

begin().catch((error) => (document.getElementById("front").textContent = error.message));
