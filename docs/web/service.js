// Keeps the page's files, so that it opens without a network. The build writes above this line FILES, their
// addresses, and VERSION, a hash of what is in them.

self.addEventListener("install", (event) => {
  const kept = caches.open(VERSION).then((cache) => cache.addAll(FILES.map((name) => new Request(name, { cache: "no-cache" }))));
  event.waitUntil(kept.then(() => self.skipWaiting()));
});

self.addEventListener("activate", (event) => {
  const old = caches.keys().then((names) => names.filter((name) => name !== VERSION));
  const gone = old.then((names) => Promise.all(names.map((name) => caches.delete(name))));
  event.waitUntil(gone.then(() => self.clients.claim()));
});

/** The answer that is kept, or else one of the network, which is kept from now on. */
async function answered(request) {
  const cache = await caches.open(VERSION);
  const known = await cache.match(request, { ignoreSearch: true });
  if (known) return known;
  const answer = await fetch(request);
  if (answer.status === 200 && request.method === "GET") await cache.put(request, answer.clone());
  return answer;
}

self.addEventListener("fetch", (event) => event.respondWith(answered(event.request)));
