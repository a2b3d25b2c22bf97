// Live, on the page: the microphone and the loudspeaker on either side of the worker.

import { microphone } from "./intake.js";
import { RATE } from "./sound.js";

const QUANTUM = 128; // samples that the audio thread asks for at once
const SPARE = 2; // quanta of time beside the computing: messages, and what else the machine does

/** Samples between a full block and its output, if computing it takes `seconds`. */
function waits(seconds, card) {
  return QUANTUM * (SPARE + Math.ceil(((seconds + card) * RATE) / QUANTUM));
}

/** What the front end plays live with; see front.js. `client` leads to the worker. */
export class Play {
  constructor(client) {
    this.client = client;
  }

  /** How long this machine takes for a block: the smallest that it computes in time, or else the largest. */
  measure() {
    return this.client.ask("measure");
  }

  /** Play `request` through a block that `measure` found; `told` gets reports, and the words at an early end. */
  async begin(request, found, told) {
    this.stream = await microphone();
    try {
      await this.connected(request, found, told);
    } catch (error) {
      this.end();
      throw error;
    }
  }

  async connected(request, found, told) {
    this.context = new AudioContext({ sampleRate: RATE, latencyHint: "interactive" });
    const { block, delay, p99 } = found;
    const wait = waits(p99, this.context.baseLatency);
    await this.context.audioWorklet.addModule(new URL("./card.js", import.meta.url));
    const mono = { channelCount: 1, channelCountMode: "explicit", outputChannelCount: [1] };
    this.node = new AudioWorkletNode(this.context, "card", { ...mono, processorOptions: { block, wait } });
    const { port1, port2 } = new MessageChannel();
    const failed = (words) => told({ ended: words });
    this.client.reported = (report) => {
      if (report.error) failed(report.error);
      else told({ ...report, late: (block + wait + delay) / RATE, card: this.card() });
    };
    await this.client.ask("play", { request, block, port: port2 }, [port2]);
    this.node.port.postMessage(port1, [port1]);
    this.node.onprocessorerror = () => failed("the browser's audio thread has failed");
    this.stream.getAudioTracks()[0].onended = () => failed("the microphone is gone");
    this.source().connect(this.node).connect(this.context.destination);
    await this.context.resume();
  }

  source() {
    try {
      return this.context.createMediaStreamSource(this.stream);
    } catch {
      throw new Error("this browser does not bring its microphone to 16 kHz, which live needs; Chromium does");
    }
  }

  /** Seconds that the browser says the sound card adds, in and out; 0 where it does not say. */
  card() {
    const { latency = 0 } = this.stream.getAudioTracks()[0].getSettings();
    return latency + this.context.baseLatency + (this.context.outputLatency || 0);
  }

  turn(request) {
    return this.client.ask("turn", { request });
  }

  end() {
    this.client.reported = null;
    this.client.ask("end");
    this.stream?.getTracks().forEach((track) => track.stop());
    this.context?.close();
    this.stream = this.context = null;
  }
}
