// A sound comes in: from a file, or from the microphone. It becomes mono at 16 kHz, its first seconds only.

import { RATE } from "./sound.js";

const PLAIN = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };

let decoder; // one for all files: each takes memory

/** The first `longest` seconds of `file`, mono, and words on what was left out. */
export async function decoded(file, longest) {
  let sound;
  try {
    decoder ??= new OfflineAudioContext(1, 1, RATE);
    sound = await decoder.decodeAudioData(await file.arrayBuffer());
  } catch {
    throw new Error("not audio that this browser can read");
  }
  const samples = new Float32Array(Math.min(sound.length, longest * RATE));
  for (let c = 0; c < sound.numberOfChannels; c++) {
    const channel = sound.getChannelData(c);
    for (let i = 0; i < samples.length; i++) samples[i] += channel[i] / sound.numberOfChannels;
  }
  const long = sound.duration > longest;
  const words = long ? `${Math.round(sound.duration)} s long: its first ${longest} s are used` : "";
  return { samples, words };
}

/** The microphone, open and unprocessed. Says where a browser does not give one. */
export async function microphone() {
  if (!navigator.mediaDevices) throw new Error("a browser records on localhost or over https only");
  return navigator.mediaDevices.getUserMedia({ audio: PLAIN });
}

/** Starts to record; the function that comes back stops. What was recorded goes to `done`. */
export async function recording(longest, done) {
  const stream = await microphone();
  const recorder = new MediaRecorder(stream);
  recorder.ondataavailable = (event) => done(event.data);
  recorder.onstop = () => stream.getTracks().forEach((track) => track.stop());
  recorder.start();
  const stop = () => recorder.state === "recording" && recorder.stop();
  setTimeout(stop, 1_000 * longest);
  return stop;
}
