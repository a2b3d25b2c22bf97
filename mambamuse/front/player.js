// Several sounds with one position: one is heard, and a click goes on with another at the same moment.

import { RATE } from "./sound.js";

const CROSSING = 0.01; // seconds from one sound to the next

export class Player {
  /** `changed(name)` is told what is heard, or null. */
  constructor(changed) {
    this.changed = changed;
    this.sounds = new Map();
    this.heard = null;
    this.at = 0; // seconds, while nothing is heard
  }

  /** What `name` plays from now on: samples, and the gain that makes all equally loud. */
  set(name, samples, gain) {
    this.sounds.set(name, { samples, gain });
    if (this.heard === name) this.play(name);
  }

  seconds(name) {
    const sound = this.sounds.get(name);
    return sound ? sound.samples.length / RATE : 0;
  }

  position() {
    return this.heard ? this.context.currentTime - this.began : this.at;
  }

  play(name) {
    this.context ??= new AudioContext();
    this.context.resume();
    const at = this.position();
    this.stop();
    const { samples, gain } = this.sounds.get(name);
    const buffer = this.context.createBuffer(1, Math.max(1, samples.length), RATE);
    buffer.copyToChannel(samples, 0);
    this.source = new AudioBufferSourceNode(this.context, { buffer });
    this.volume = new GainNode(this.context, { gain: 0 });
    this.source.connect(this.volume).connect(this.context.destination);
    const now = this.context.currentTime;
    const start = at < buffer.duration - 0.02 ? Math.max(0, at) : 0;
    this.volume.gain.linearRampToValueAtTime(gain, now + CROSSING);
    this.source.start(now, start);
    this.began = now - start;
    this.heard = name;
    this.source.onended = () => {
      this.at = 0;
      this.silence();
    };
    this.changed(name);
  }

  /** Let what is heard fade. */
  stop() {
    if (!this.source) return;
    const now = this.context.currentTime;
    this.source.onended = null;
    this.volume.gain.setTargetAtTime(0, now, CROSSING / 3);
    this.source.stop(now + CROSSING);
    this.source = null;
  }

  silence() {
    this.stop();
    this.heard = null;
    this.changed(null);
  }

  pause() {
    this.at = this.position();
    this.silence();
  }

  seek(seconds) {
    if (this.heard) this.began = this.context.currentTime - seconds;
    else this.at = seconds;
    if (this.heard) this.play(this.heard);
  }

  close() {
    this.silence();
    this.context?.close();
  }
}
