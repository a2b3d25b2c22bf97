const gallery = document.querySelector(".gallery");
const find = (what, inside = gallery) => inside.querySelector(what);
const all = (what, inside = gallery) => [...inside.querySelectorAll(what)];
let playing;

function wire(cell) {  // a player: button, bar and, where there is one, picture
  const [audio, button, bar, picture, cursor] = ["audio", ".bar button", ".bar input", ".picture", ".cursor"].map((part) => find(part, cell));
  const show = () => {
    bar.value = audio.currentTime;
    if (cursor) cursor.style.left = 100 * audio.currentTime / bar.max + "%";
  };
  const follow = () => { show(); if (!audio.paused) requestAnimationFrame(follow); };
  const play = () => {
    if (playing && playing !== audio) playing.pause();
    playing = audio;
    audio.play();
  };
  const move = (seconds) => { audio.currentTime = seconds; cell.classList.add("moving"); show(); };
  audio.onplay = () => { button.textContent = "\u275a\u275a"; cell.classList.add("moving"); follow(); };
  audio.onpause = () => { button.textContent = "\u25b6"; };
  audio.onended = () => { audio.currentTime = 0; cell.classList.remove("moving"); show(); };
  button.onclick = () => { if (audio.paused) play(); else audio.pause(); };
  bar.oninput = () => move(+bar.value);
  if (picture) picture.onclick = (event) => { move(bar.max * event.offsetX / picture.clientWidth); play(); };
}
all(".take").forEach(wire);

// Sorting: the closest to the target first
const [score, system] = all(".order select");
const number = (pair) => +find(`[data-system="${CSS.escape(system.value)}"]`, pair).dataset[score.value];
function sort() {
  system.disabled = !score.value;
  for (const set of all(".set")) {
    const pairs = all(".pair", set);
    const key = score.value ? number : (pair) => +pair.dataset.at;
    pairs.sort((a, b) => key(a) - key(b)).forEach((pair) => set.append(pair));
  }
}
score.onchange = system.onchange = sort;
sort();

// The blind test
const blind = find(".blind"), votes = [];
const shuffled = (list) => list.map((item) => [Math.random(), item]).sort((a, b) => a[0] - b[0]).map((item) => item[1]);
const trials = shuffled(all(".pair").flatMap((pair) => all(".take.other", pair).map((other) => {
  const [a, b] = shuffled([find(".take.ours", pair), other]);
  return {pair, a, b};
})));
let trial, began;

function ask() {
  trial = trials[votes.length];
  began = Date.now();
  const {pair, a, b} = trial;
  find(".question", blind).textContent = `${votes.length + 1}. ${find(".name b", pair).textContent}`;
  const target = find(".take.of-target", pair);
  all(".take", blind).forEach((cell, at) => {
    const audio = find("audio", cell), bar = find(".bar input", cell), from = [target, a, b][at];
    audio.src = find("audio", from).src;
    bar.max = find(".bar input", from).max;
    bar.value = 0;
  });
  find(".said", blind).textContent = "";
  all(".vote", blind).forEach((button) => { button.disabled = false; });
  find(".trial", blind).hidden = false;
  find(".start", blind).hidden = find(".next", blind).hidden = true;
}

function vote(choice) {
  const {pair, a, b} = trial, [nameA, nameB] = [a, b].map((cell) => cell.dataset.system);
  if (playing) playing.pause();
  votes.push([votes.length + 1, pair.dataset.set, pair.dataset.pair, nameA, nameB, choice, ((Date.now() - began) / 1000).toFixed(1)]);
  all(".vote", blind).forEach((button) => { button.disabled = true; });
  const ours = votes.filter((row) => row[5] !== "same" && (row[5] === "A") === (row[3] === blind.dataset.ours)).length;
  const decided = votes.filter((row) => row[5] !== "same").length;
  const [headA, headB] = [a, b].map((cell) => find(".who", cell).textContent);
  find(".said", blind).textContent = `A was ${headA}, B was ${headB}. So far, ${find(".take.ours .who").textContent} was closer in ${ours} of ${decided}.`;
  find(".next", blind).hidden = votes.length === trials.length;
  const download = find(".download", blind);
  download.hidden = false;
  download.textContent = `Download ${votes.length} vote${votes.length > 1 ? "s" : ""} (CSV)`;
}

function csv() {
  const quoted = (value) => `"${String(value).replaceAll('"', '""')}"`;
  const rows = [["trial", "set", "pair", "a", "b", "closer", "seconds"], ...votes];
  return rows.map((row) => row.map(quoted).join(",")).join("\n") + "\n";
}

find(".start", blind).onclick = find(".next", blind).onclick = ask;
all(".vote", blind).forEach((button) => { button.onclick = () => vote(button.value); });
find(".download", blind).onclick = () => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([csv()], {type: "text/csv"}));
  link.download = "votes.csv";
  link.click();
  URL.revokeObjectURL(link.href);
};
