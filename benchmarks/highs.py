"""Should the content's sound above 8 kHz be kept? Notes of a soundfont at 44.1 kHz, the same note by two
instruments.

    python benchmarks/highs.py --soundfont FluidR3_GM.sf2 [--out benchmarks/highs.csv]

For each pair the octave from 8 to 16 kHz is compared with the target's, the instrument that the transfer
should give: with
nothing there, as the model leaves it, and with the content's own highs. The measure is the log-spectral
distance, levels
floored at 80 dB below the target's strongest bin; both instruments are at the same RMS level.
"""

import argparse
import csv
import platform

import fluidsynth
import numpy as np

RATE, FLOOR = 44_100, 80
PROGRAMS = (0, 6, 11, 19, 24, 40, 42, 56, 60, 65, 68, 71, 73)  # General MIDI: piano to flute


def note(synth, font, program, key, seconds=2.0):
    "A note `(time,)` at RMS 0.1."
    synth.system_reset()
    synth.program_select(0, font, 0, program)
    synth.noteon(0, key, 100)
    sound = synth.get_samples(int(seconds * RATE)).reshape(-1, 2).mean(1) / 2**15
    synth.noteoff(0, key)
    return 0.1 * sound / np.sqrt((sound**2).mean())


def spectrum(sound, size=2_048, hop=512):
    frames = np.lib.stride_tricks.sliding_window_view(sound, size)[::hop] * np.hanning(size)
    return np.abs(np.fft.rfft(frames)) ** 2


def distance(power, target, band):
    "Log-spectral distance in dB between two power spectra in the bins `band`."
    least = target.max() * 10 ** (-FLOOR / 10)
    levels = [10 * np.log10(np.maximum(p[:, band], least)) for p in (power, target)]
    return float(np.sqrt(((levels[0] - levels[1]) ** 2).mean(1)).mean())


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--soundfont", required=True)
    parser.add_argument("--out", default="benchmarks/highs.csv")
    args = parser.parse_args()
    synth = fluidsynth.Synth(samplerate=RATE)
    font = synth.sfload(args.soundfont)
    synth.setting("synth.reverb.active", 0), synth.setting("synth.chorus.active", 0)
    frequencies = np.fft.rfftfreq(2_048, 1 / RATE)
    band, rows = (frequencies >= 8_000) & (frequencies < 16_000), []
    notes = {
        (program, key): spectrum(note(synth, font, program, key)) for program in PROGRAMS for key in (55, 67)
    }
    for (a, key), content in notes.items():
        for b in PROGRAMS:
            if a != b:
                target = notes[b, key]
                rows.append((distance(0 * content, target, band), distance(content, target, band)))
    nothing, kept = np.array(rows).T
    with open(args.out, "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["case", "lsd_8_to_16_kHz_dB", "closer_of_pairs", "n", "machine"])
        for name, values, closer in (
            ("nothing", nothing, nothing < kept),
            ("the content's", kept, kept < nothing),
        ):
            table.writerow([name, f"{values.mean():.2f}", int(closer.sum()), len(values), platform.machine()])
    print(open(args.out).read())


if __name__ == "__main__":
    main()
