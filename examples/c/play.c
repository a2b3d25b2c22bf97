// A host in C, with the C compiler and nothing else.
//
//     mambamuse export step --c
//     cc -O3 -march=native -I step -o play examples/c/play.c step/network.c -lm
//
// For other computers than this one: -mavx2 -mfma in place of -march=native. Never -ffast-math.
//
// Sounds are raw float32, mono at 16 kHz, scaled so that their loudest peaks reach 0.9, the model's level. A style
// is its statistics as raw float32. mambamuse makes both:
//
//     python -c "from mambamuse.use.style import prepared; prepared('voice.wav').tofile('content.f32')"
//     mambamuse style trumpet.wav -o trumpet.style
//     python -c "from mambamuse import Style; Style.load('trumpet.style').statistics.tofile('style.f32')"
//     ./play step/constants.f32 content.f32 style.f32 out.f32
//
// The content goes through block by block, as a plug-in gets it. What may change from block to block: the style,
// by restyle(), and the alphas, but for those that are 0 in step.h.

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "step.h"

#define COUNT(array) (int)(sizeof(array) / sizeof((array)[0]))

static const double WARM_UP = 0.5; // seconds of content that the style's statistics stand for at first

static const long LONGEST = 1L << 30; // bytes: four hours and a half

static float memory[MEMORY];
static double sums[SUMS];
static float style[2 * SETS][CHANNELS];

static void fail(const char *name, const char *why) {
  fprintf(stderr, "%s: %s\n", name, why);
  exit(1);
}

static FILE *opened(const char *name, const char *how) {
  FILE *file = fopen(name, how);
  if (!file) fail(name, *how == 'r' ? "no such file" : "cannot be written");
  return file;
}

// Exactly `count` numbers of a file
static void load(const char *name, float *into, size_t count) {
  FILE *file = opened(name, "rb");
  if (fread(into, sizeof(float), count, file) < count || fgetc(file) != EOF) fail(name, "not of this network");
  for (size_t i = 0; i < count; i++) {
    if (!isfinite(into[i])) fail(name, "there are numbers in it that are none");
  }
  fclose(file);
}

// The samples of a file of raw float32
static float *sound_of(const char *name, long *count) {
  FILE *file = opened(name, "rb");
  fseek(file, 0, SEEK_END);
  const long bytes = ftell(file);
  rewind(file);
  if (bytes < 0 || bytes > LONGEST || bytes % sizeof(float)) fail(name, "not raw float32; see the head of play.c");
  *count = bytes / sizeof(float);
  float *sound = calloc(*count + DELAY + BLOCK, sizeof(float)); // silence behind it, until its end has come out
  if (!sound || fread(sound, sizeof(float), *count, file) < (size_t)*count) fail(name, "cannot be read");
  fclose(file);
  for (long i = 0; i < *count; i++) {
    if (!(fabsf(sound[i]) <= 2)) fail(name, "not raw float32 of about -1 to 1; see the head of play.c");
  }
  return sound;
}

// AdaIN goes to the style from now on
static void restyle(void) {
  for (const Place *p = PLACES; p < PLACES + COUNT(PLACES); p++) {
    for (int row = 0; row < 2 * SETS; row++) {
      memcpy(memory + p->style + row * p->width, style[row] + p->first, p->channels * sizeof(float));
    }
  }
}

// The content's statistics begin with those of the style, which count for some seconds
static void expect(double seconds) {
  for (const Place *p = PLACES; p < PLACES + COUNT(PLACES); p++) {
    const double steps = fmax(2, seconds * SAMPLES_A_SECOND / p->stride);
    const double share = steps * (1.0 / SETS + PART);
    double *known = sums + p->sums;
    *known++ = steps;
    for (int set = 0; set < SETS; set++) *known++ = share;
    for (int set = 0; set < SETS; set++, known += 2 * p->channels) {
      for (int c = 0; c < p->channels; c++) {
        const double mean = style[set][p->first + c], deviation = style[SETS + set][p->first + c];
        const double variance = (deviation * deviation - EPS) * (steps - 1) / steps;
        known[c] = share * mean;
        known[p->channels + c] = share * (variance + mean * mean);
      }
    }
  }
}

int main(int count, char **words) {
  if (count != 5) {
    fprintf(stderr, "play CONSTANTS CONTENT STYLE OUT: see the head of play.c\n");
    return 1;
  }
  long time;
  float *sound = sound_of(words[2], &time);
  load(words[1], memory, CONSTANTS);
  load(words[3], style[0], 2 * SETS * CHANNELS);
  for (int i = 0; i < HEARD; i++) memory[ENERGIES + i] = LEAST;
  restyle();
  expect(WARM_UP);
  const double length = fmax(32, (time + 15) / 16 * 16);
  FILE *out = opened(words[4], "wb");
  for (long position = 0; position < time + DELAY; position += BLOCK) {
    memcpy(memory + INPUT, sound + position, BLOCK * sizeof(float));
    execute(PROGRAM, COUNT(PROGRAM), memory, sums, position, length, ALPHAS, 1, FALLS);
    for (long i = 0; i < BLOCK; i++) { // what comes before the first sample, or after the last, is left out
      const long at = position + i - DELAY;
      if (at >= 0 && at < time) fwrite(memory + OUTPUT + i, sizeof(float), 1, out);
    }
  }
  if (fclose(out)) fail(words[4], "cannot be written");
  free(sound);
  return 0;
}
