// The network for programs in C and, compiled to WebAssembly, for browsers: the instructions of
// mambamuse/use/instructions.py, on one array of memory. No library but for `log10` and `tanh`.
//
// `network.h` is written by mambamuse.use.portable: an instruction's fields, their kinds, the constants.

#include "network.h"

#ifdef __wasm__
#define EXPORTED(name) __attribute__((export_name(#name)))
#define IMPORTED(name) __attribute__((import_module("env"), import_name(#name)))
#else
#define EXPORTED(name)
#define IMPORTED(name)
#endif

#if defined __FAST_MATH__ || defined __ASSOCIATIVE_MATH__
#error "not with -ffast-math: the sound would be wrong, since exp2_of rounds by adding a large number"
#endif

#if defined __AVX512F__ // the sums of a product's tile fit into the registers
#define WIDE 16
#define ROWS 8
#elif defined __AVX__ || defined __wasm__
#define WIDE 8
#define ROWS 4
#else
#define WIDE 4
#define ROWS 4
#endif

typedef float tile __attribute__((vector_size(4 * WIDE), aligned(4), may_alias)); // neighbouring channels
typedef int bits __attribute__((vector_size(4 * WIDE), aligned(4)));

IMPORTED(log10) double log10(double x);
IMPORTED(tanh) double tanh(double x);

static inline tile load(const float *at) { return *(const tile *)at; }
static inline void store(float *at, tile x) { *(tile *)at = x; }
static inline tile splat(float x) { return (tile){0} + x; }
static inline tile choose(bits is, tile x, tile y) { return (tile)((is & (bits)x) | (~is & (bits)y)); }
static inline int clamped(long long x, int low, int high) { return x < low ? low : x > high ? high : x; }

static inline float total(tile x) {
  float sum = 0;
  for (int i = 0; i < WIDE; i++) sum += x[i];
  return sum;
}

// Products

// `rows` rows of WIDE columns from `column` on, from row `t` on
static inline __attribute__((always_inline)) void rows_of(float *m, const Instruction *p, int t, int column,
                                                          int rows) {
  const int size = p->parts * p->taps * LANES;
  const float *w = m + p->weight + column / LANES * size + column % LANES;
  tile sums[ROWS];
  for (int k = 0; k < rows; k++) sums[k] = load(m + p->bias + column);
  for (int part = 0; part < p->parts; part++) {
    const float *x = m + p->x + t * p->x_width + part * p->apart;
    for (int i = 0; i < p->taps; i++, w += LANES) {
      const tile v = load(w);
      for (int k = 0; k < rows; k++) sums[k] += x[k * p->x_width + i] * v;
    }
  }
  for (int k = 0; k < rows; k++) store(m + p->y + (t + k) * p->fold * p->y_width + column, sums[k]);
}

static void product(float *m, const Instruction *p) {
  const int rows = p->rows / p->fold;
  for (int column = 0; column < p->blocks * LANES; column += WIDE) {
    int t = 0;
    for (; t + ROWS <= rows; t += ROWS) rows_of(m, p, t, column, ROWS);
    for (; t < rows; t++) rows_of(m, p, t, column, 1);
  }
}

// Elementary functions, as mambamuse/model/scan_kernel.py has them

static const float MAGIC = 1.5f * (1 << 23); // floats of this size are 1 apart, so adding it rounds

// 2 ** x, for x up to 126; 0 where it would be less than 2 ** -100: what comes of such numbers is too small
// for float32, and slow
static inline tile exp2_of(tile x) {
  x = choose(x < 126.0f, x, splat(126.0f));
  const tile k = (x + MAGIC) - MAGIC;
  const tile f = x - k;
  const tile p =
      ((((0.001326472731307149f * f + 0.009671512991189957f) * f + 0.05550733581185341f) * f +
        0.24022242426872253f) * f + 0.6931470036506653f) * f + 1.0f;
  const bits power = (bits)(k + (MAGIC + 127)) << 23;
  return (tile)((bits)(p * (tile)power) & (x > -100.0f));
}

// log(1 + x), for x in [0, 1]
static inline tile log1p_of(tile x) {
  return x * (((((((0.005232694558799267f * x - 0.02950524352490902f) * x + 0.07822596281766891f) * x -
                  0.13663247227668762f) * x + 0.19106008112430573f) * x - 0.2484298199415207f) * x +
               0.3331909775733948f) * x - 0.4999949336051941f) * x + x * 0.9999999403953552f;
}

static inline tile softplus(tile x) {
  const tile zero = splat(0);
  const tile away = choose(x > zero, -x, x);
  return choose(x > zero, x, zero) + log1p_of(exp2_of(away * LOG2E));
}

static inline tile sigmoid(tile x) { return 1.0f / (exp2_of(x * -LOG2E) + 1.0f); }

// A Mamba's own

static void depthwise(float *m, const Instruction *p) {
  const int width = p->blocks * LANES;
  for (int c = 0; c < width; c += WIDE) {
    for (int t = 0; t < p->rows; t++) {
      tile out = load(m + p->bias + c);
      for (int i = 0; i < p->taps; i++) {
        out += load(m + p->x + (t + i) * p->x_width + c) * load(m + p->weight + i * width + c);
      }
      store(m + p->y + t * p->y_width + c, out * sigmoid(out));
    }
  }
}

// The selective scan, with its gate: the rows from `begin` to `end`, WIDE channels at a time
static void scan(float *m, const Instruction *p, int begin, int end) {
  for (int c = 0; c < p->blocks * LANES; c += WIDE) {
    const int at = c / LANES * p->states * LANES + c % LANES;
    const float *rates = m + p->rates + at;
    float *state = m + p->state + at;
    const tile skip = load(m + p->skip + c);
    const tile bias = load(m + p->bias + c);
    for (int t = begin; t < end; t++) {
      const float *B = m + p->pair + t * p->pair_width;
      const float *C = B + p->states;
      const tile x = load(m + p->x + t * p->x_width + c);
      const tile gate = load(m + p->gate + t * p->gate_width + c);
      const tile dt = softplus(load(m + p->delta + t * p->delta_width + c) + bias);
      const tile dx = dt * x;
      tile out = x * skip;
      for (int j = 0; j < p->states; j++) {
        const tile h = exp2_of(dt * load(rates + j * LANES)) * load(state + j * LANES) + dx * B[j];
        store(state + j * LANES, h);
        out += h * C[j];
      }
      store(m + p->y + t * p->y_width + c, out * (gate * sigmoid(gate)));
    }
  }
}

// Row by row

static void norm(float *m, const Instruction *p) {
  const int width = p->blocks * LANES;
  for (int t = 0; t < p->rows; t++) {
    const float *x = m + p->x + t * p->x_width;
    float *y = m + p->y + t * p->y_width;
    tile one = splat(0), two = splat(0);
    for (int c = 0; c < width; c += WIDE) one += load(x + c);
    const float mean = total(one) / p->channels;
    for (int c = 0; c < width; c += WIDE) {
      const tile away = (load(x + c) - mean) * load(m + p->mask + c);
      two += away * away;
    }
    const float scale = 1 / __builtin_sqrt(total(two) / p->channels + NORM_EPS);
    for (int c = 0; c < width; c += WIDE) {
      store(y + c, (load(x + c) - mean) * scale * load(m + p->weight + c) + load(m + p->bias + c));
    }
  }
}

static void leaky(float *m, const Instruction *p) {
  for (int t = 0; t < p->rows; t++) {
    for (int c = 0; c < p->blocks * LANES; c += WIDE) {
      const tile x = load(m + p->x + t * p->x_width + c);
      store(m + p->y + t * p->y_width + c, choose(x > x * SLOPE, x, x * SLOPE));
    }
  }
}

static void add(float *m, const Instruction *p) {
  for (int t = 0; t < p->rows; t++) {
    for (int c = 0; c < p->blocks * LANES; c += WIDE) {
      const tile other = load(m + p->other + t * p->other_width + c);
      store(m + p->y + t * p->y_width + c, load(m + p->x + t * p->x_width + c) + other);
    }
  }
}

// The mean of each two rows
static void pool(float *m, const Instruction *p) {
  for (int t = 0; t < p->rows; t++) {
    const float *x = m + p->x + 2 * t * p->x_width;
    for (int c = 0; c < p->blocks * LANES; c += WIDE) {
      store(m + p->y + t * p->y_width + c, (load(x + c) + load(x + p->x_width + c)) * 0.5f);
    }
  }
}

// Of the first column: the sound
static void sound(float *m, const Instruction *p) {
  for (int t = 0; t < p->rows; t++) m[p->y + t] = tanh(m[p->x + t * p->x_width]);
}

static void keep(float *m, const Instruction *p) {
  for (int i = 0; i < p->count; i++) m[p->y + i] = m[p->x + i];
}

// The envelope's stages

static float mean_of(const float *x, int count) {
  double sum = 0;
  for (int i = 0; i < count; i++) sum += x[i];
  return sum / count;
}

// How much of an onset the energies at `at` say, 0 to 1
static double onset(const float *at) {
  const float rise = 10 * (float)log10(mean_of(at + LONG, SHORT) / mean_of(at, LONG));
  const double share = (rise - RISE_0) / (RISE_1 - RISE_0);
  return share < 0 ? 0 : share > 1 ? 1 : share;
}

// The weights of the stages, `(rows, sets)`; a mark falls by `falls` in a frame
static void envelope(float *m, const Instruction *p, const double *falls) {
  const int heard = SHORT + LONG;
  float *energies = m + p->state;
  float *marks = energies + heard;
  for (int t = 0; t < p->rows; t++) {
    const double now = onset(energies);
    double before = 0;
    float *y = m + p->y + t * p->sets;
    for (int k = 0; k < p->sets - 1; k++) {
      const double fallen = marks[k] * falls[k];
      const double mark = now > fallen ? now : fallen;
      marks[k] = mark;
      y[k] = mark - before;
      before = mark;
    }
    y[p->sets - 1] = 1 - before;
    double energy = 0;
    for (int i = p->x + t * FRAME; i < p->x + (t + 1) * FRAME; i++) {
      const float rough = m[i] - ROUGH * m[i - 1];
      energy += rough * rough;
    }
    for (int i = 0; i < heard - 1; i++) energies[i] = energies[i + 1];
    energies[heard - 1] = energy / FRAME + LEAST;
  }
}

// AdaIN. The sums `d` of a place, from `p->sums` on: steps heard; `sets` weights; for each set two rows of
// moments; the open frame's `sets` weights and two rows.

static int moments_of(const Instruction *p, int set) { return p->sums + 1 + p->sets + 2 * set * p->channels; }

// The open frame of `steps` joins what was heard, which counts `decay` times as much as before
static void end_frame(double *d, const Instruction *p, int steps, double decay) {
  const int wide = 2 * p->channels;
  double *weights = d + moments_of(p, p->sets);
  double *frame = weights + p->sets;
  d[p->sums] = decay * d[p->sums] + steps;
  for (int s = 0; s < p->sets; s++) {
    double *share = d + p->sums + 1 + s;
    double *heard = d + moments_of(p, s);
    *share = decay * *share + steps * weights[s];
    for (int c = 0; c < wide; c++) heard[c] = decay * heard[c] + weights[s] * frame[c];
  }
  for (int c = 0; c < wide; c++) frame[c] = 0;
}

// Mean, scale and shift of each channel from now on, into the table; the `weights` are those of the stages
static void look(float *m, const double *d, const Instruction *p, const float *weights, float alpha) {
  const int width = p->blocks * LANES;
  const double steps = d[p->sums] > 2 ? d[p->sums] : 2;
  const double correction = steps / (steps - 1);
  float *mean = m + p->table, *deviation = mean + width, *shift = mean + 2 * width;
  float *style_mean = mean + 3 * width, *style_deviation = mean + 4 * width;
  for (int c = 0; c < 5 * width; c++) mean[c] = 0;
  for (int s = 0; s < p->sets; s++) {
    const double share = 1 / d[p->sums + 1 + s];
    const double *first = d + moments_of(p, s), *second = first + p->channels;
    const float *theirs = m + p->style + s * width;
    const float *spread = theirs + p->sets * width;
    for (int c = 0; c < p->channels; c++) {
      const double one = first[c] * share;
      const double square = second[c] * share - one * one;
      const double variance = (square > 0 ? square : 0) * correction;
      mean[c] += weights[s] * one;
      deviation[c] += weights[s] * __builtin_sqrt(variance + EPS);
      style_mean[c] += weights[s] * theirs[c];
      style_deviation[c] += weights[s] * spread[c];
    }
  }
  for (int c = 0; c < p->channels; c++) {
    deviation[c] = alpha * (style_deviation[c] / deviation[c]) + (1 - alpha); // the scale
    shift[c] = alpha * style_mean[c] + (1 - alpha) * mean[c];
  }
}

// A row of features joins the open frame
static void listen(double *frame, const float *x, int channels) {
  for (int c = 0; c < channels; c++) {
    const double value = x[c];
    frame[c] += value;
    frame[channels + c] += value * value;
  }
}

static void restyle(float *m, double *d, const Instruction *p, int begin, int end, long long position,
                    float alpha, double decay) {
  const int steps = FRAME / p->rate, width = p->blocks * LANES;
  double *weights = d + moments_of(p, p->sets);
  for (int t = begin; t < end; t++) {
    const long long moment = position / p->rate - p->delay + t;
    if (moment % steps == 0) {
      const int frame = moment / steps - position / FRAME;
      const float *stages = m + p->stages + frame * p->sets;
      if (moment) end_frame(d, p, steps, decay);
      look(m, d, p, stages, alpha);
      for (int s = 0; s < p->sets; s++) weights[s] = stages[s] + PART;
    }
    const float *x = m + p->x + t * p->x_width;
    const float *table = m + p->table;
    listen(weights + p->sets, x, p->channels);
    for (int c = 0; c < width; c += WIDE) {
      const tile y = (load(x + c) - load(table + c)) * load(table + width + c) + load(table + 2 * width + c);
      store(m + p->y + t * p->y_width + c, y);
    }
  }
}

// All

static void silence(float *m, const Instruction *p, int first, int last) {
  for (int i = first * p->y_width; i < last * p->y_width; i++) m[p->y + i] = 0;
}

// Follow `count` instructions on the memory `m` and the sums `d`, for the block that begins at sample
// `position` of a sound of `length`. `alphas`: the blend at each place; `decay`: of what was heard, in a
// frame; `falls`: of each mark of an envelope.
EXPORTED(execute) void execute(const Instruction *program, int count, float *m, double *d, double position,
                      double length, const float *alphas, double decay, const double *falls) {
  const long long from = position, to = length;
  for (const Instruction *p = program; p < program + count; p++) {
    if (p->op == KEEP) {
      keep(m, p);
      continue;
    }
    const int begin = clamped(p->delay - from / p->rate, 0, p->rows);
    const int end = clamped(p->delay + (to - from) / p->rate, begin, p->rows);
    switch (p->op) {
      case PRODUCT: product(m, p); break;
      case DEPTHWISE: depthwise(m, p); break;
      case SCAN: scan(m, p, begin, end); break;
      case NORM: norm(m, p); break;
      case LEAKY: leaky(m, p); break;
      case ADD: add(m, p); break;
      case POOL: pool(m, p); break;
      case TANH: sound(m, p); break;
      case RESTYLE: restyle(m, d, p, begin, end, from, alphas[p->place], decay); break;
      case ENVELOPE: envelope(m, p, falls); break;
    }
    silence(m, p, 0, begin);
    silence(m, p, end, p->rows);
  }
}
